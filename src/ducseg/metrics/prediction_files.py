"""Predictions as files beside their ground truth: found, paired, read strictly, counted in threads.

What the official evaluations only stop at, one file after the other, is collected here and said in one message.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ducseg.cores import available_cores
from ducseg.data.files.png import read_png_header
from ducseg.data.files.reading import PICTURE_SUFFIXES, read_label
from ducseg.data.paired import no_such_data
from ducseg.errors import Said, UserError, explain, listed
from ducseg.files import files_below

__all__ = ["count_each", "pair_by_name", "pictures_below", "read_prediction"]

Item = TypeVar("Item")
Counts = TypeVar("Counts")

_COLOUR_TYPES = {2: "RGB colours", 4: "grey with an alpha channel", 6: "RGBA colours"}  # PNG specification 11.2.2
_MOST_NAMED = 200
_MOST_PROBLEMS = 20


def pictures_below(folder: Path | str, what: str, layout: str) -> list[Path]:
    """Picture files in `folder` and its sub-folders, sorted; hidden ones are left out.

    Raises:
        UserError: no such folder, or an archive in its place, or one that may not be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise no_such_data(what, folder, missing=f"no folder {folder.name}", layout=layout)
    return [one for one in files_below(folder, follow=True) if one.suffix.lower() in PICTURE_SUFFIXES]


def pair_by_name(
    truth: Iterable[str], predictions: Iterable[Path], key_of: Callable[[Path], str | None], *, subset: bool, fix: str
) -> dict[str, Path]:
    """The prediction of each name in `truth`, in order.

    Args:
        truth: names that have ground truth.
        predictions: files; of which those without a key, or with one that has no truth, are surplus.
        key_of: the name that a file is a prediction of, None for no prediction.
        subset: leave out names without a prediction, and surplus files, which a line says, instead of raising.
        fix: how to go on, said in the message; without `subset`, so is that there is --subset.

    Raises:
        UserError: one message with all missing and all surplus files, and names with several predictions; with
            `subset`, only where no name has a prediction, or one has several.
    """
    files: dict[str | None, list[Path]] = defaultdict(list)
    for file in predictions:
        files[key_of(file)].append(file)
    names = list(dict.fromkeys(truth))
    known = set(names)
    missing = [name for name in names if name not in files]
    surplus = sorted(str(file) for key in files if key not in known for file in files[key])
    several = [" and ".join(map(str, files[name])) for name in names if len(files[name]) > 1]
    problems = [f"several predictions of one frame: {listed(several, _MOST_NAMED)}"] if several else []
    of_others = [f"{len(missing)} of {len(names)} without a prediction: {listed(missing, _MOST_NAMED)}"] * bool(missing)
    if surplus:
        of_others += [f"{len(surplus)} surplus files, which belong to no ground truth: {listed(surplus, _MOST_NAMED)}"]
    scorable = subset and len(missing) < len(names)
    problems += [] if scorable else of_others
    if problems:
        fix += "" if subset else " Or score those that are in both with --subset."
        raise explain("predictions", found="; ".join(problems), needed="one PNG for each ground truth", fix=fix)
    if of_others:
        warnings.warn(f"left out: {'; '.join(of_others)}", Said, stacklevel=3)
    return {name: files[name][0] for name in names if files[name]}


def read_prediction(path: Path | str, size: tuple[int, int], needed: str, fix: str) -> NDArray[np.uint8]:
    """The values (H, W) of an 8-bit grey or palette PNG, of exactly the ground truth's size (H, W).

    Raises:
        UserError: another kind of picture (16 bits, colours, alpha; `needed` and `fix` say what is right), a damaged or
            truncated file, another size.
    """
    path = Path(path)
    found = _wrong_kind(path)
    if found is not None:
        raise explain(f"prediction {path}", found=found, needed=needed, fix=fix)
    values = read_label(path)
    if values.shape != size:
        raise explain(
            f"prediction {path}",
            found=f"{values.shape[0]} x {values.shape[1]} pixels (H x W)",
            needed=f"{size[0]} x {size[1]}, the size of its ground truth",
            fix="Predict at the size of the picture, or resize the ids by nearest neighbour.",
        )
    return values


def _wrong_kind(path: Path) -> str | None:
    """What is wrong with the kind of a PNG, from its header alone; None: nothing, or no PNG header to look at."""
    header = read_png_header(path)
    if header is None:
        return None
    if header.colour in _COLOUR_TYPES:
        return _COLOUR_TYPES[header.colour]
    return "16 bits a pixel" if header.depth == 16 else None


def count_each(
    count: Callable[[str, Item], Counts],
    items: Mapping[str, Item],
    num_workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Counts]:
    """count(name, item) of each, in threads (decoding and counting release Python's lock).

    Args:
        num_workers: threads; None: one for each core.
        progress: called with (done, total).

    Raises:
        UserError: no worker; or what was wrong with all the items for which `count` raised it.
    """
    workers = available_cores() if num_workers is None else num_workers
    if workers < 1:
        raise explain("workers", found=workers, needed="at least 1", fix="Leave it out to use all cores.")
    found: dict[str, Counts] = {}
    problems: list[str] = []
    with ThreadPoolExecutor(workers) as pool:
        counted = pool.map(partial(_count_or_say, count), items, items.values())
        for done, (name, result) in enumerate(zip(items, counted), 1):
            if isinstance(result, UserError):
                problems.append(str(result))
            else:
                found[name] = result
            if progress is not None:
                progress(done, len(items))
    if problems:
        several = f"{len(problems)} of {len(items)} pictures cannot be scored: " if len(problems) > 1 else ""
        raise UserError(several + listed(problems, _MOST_PROBLEMS, " | "))
    return found


def _count_or_say(count: Callable[[str, Item], Counts], name: str, item: Item) -> Counts | UserError:
    try:
        return count(name, item)
    except UserError as error:
        return error
