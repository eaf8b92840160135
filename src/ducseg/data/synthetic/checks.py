"""What every writer of drawn pictures refuses, and where it writes: half a data set is none."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ducseg.errors import explain
from ducseg.files import whole_folder

__all__ = ["check_numbers", "new_data_set"]


def check_numbers(seed: int, what: str, counts: Sequence[int]) -> None:
    """Raise `UserError` for a negative seed, negative numbers of `what`, or none at all."""
    if seed < 0:
        raise explain("seed", found=seed, needed="0 or more", fix="Leave the sign out.")
    if min(counts) < 0 or sum(counts) == 0:
        found = " and ".join(map(str, counts))
        raise explain(f"number of {what}", found=found, needed="at least 1 in all, none negative", fix="Ask for some.")


@contextmanager
def new_data_set(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Yield a hidden folder to write `folders` in; they come to `root` once all is written, and after a kill never.

    Raises:
        UserError: the root is a file, holds one of the folders, cannot be made or written.
    """
    if root.exists() and not root.is_dir():
        raise explain(f"folder {root}", found="a file", needed="a new folder", fix="Choose another name.")
    there = [f"{name}/" for name in folders if (root / name).exists()]
    if there:
        found = f"{' and '.join(there)} in it"
        raise explain(f"folder {root}", found=found, needed="a new folder", fix="Remove it or choose another.")
    if not root.exists():
        with whole_folder(root) as made:
            yield made
        return
    with whole_folder(root / ".scenes") as made:
        yield made
        for name in folders:
            if (made / name).exists():
                (made / name).replace(root / name)
    shutil.rmtree(root / ".scenes")
