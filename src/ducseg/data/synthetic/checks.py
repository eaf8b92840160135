"""What every writer of drawn pictures refuses."""

from collections.abc import Sequence
from pathlib import Path

from ducseg.errors import explain

__all__ = ["check_new", "check_numbers"]


def check_numbers(seed: int, what: str, counts: Sequence[int]) -> None:
    """Raise `UserError` for a negative seed, negative numbers of `what`, or none at all."""
    if seed < 0:
        raise explain("seed", found=seed, needed="0 or more", fix="Leave the sign out.")
    if min(counts) < 0 or sum(counts) == 0:
        found = " and ".join(map(str, counts))
        raise explain(f"number of {what}", found=found, needed="at least 1 in all, none negative", fix="Ask for some.")


def check_new(root: Path, folders: Sequence[str]) -> None:
    """Raise `UserError` where the root is a file or holds one of the folders."""
    if root.exists() and not root.is_dir():
        raise explain(f"folder {root}", found="a file", needed="a new folder", fix="Choose another name.")
    there = [f"{name}/" for name in folders if (root / name).exists()]
    if there:
        found = f"{' and '.join(there)} in it"
        raise explain(f"folder {root}", found=found, needed="a new folder", fix="Remove it or choose another.")
