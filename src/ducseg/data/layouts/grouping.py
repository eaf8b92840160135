"""Pictures held out by the hashes of their names, in groups that stay together: the same ones in every run."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ducseg.errors import explain

__all__ = ["EYES", "FOLDER", "are_numbered", "eyes_in", "folds_of", "group_function", "group_of", "held_out", "matched"]

EYES = r"(?:^|/)([^/]*\d)[-_ ]?(?:L|R|OD|OS|left|right)(?![A-Za-z0-9])"
"""A `group_by` that keeps both eyes of a person together: 01L and 01R, 7_OD and 7_OS."""

FOLDER = "^([^/]+)/"
"""A `group_by` that keeps the pictures of a folder together."""

_FEWEST_FOLDERS = 5
"""Of fewer, one is too much to hold out."""


_ADD = (
    "Add images, cut a large one (ducseg data convert tiles DIR --out OUT), or train and validate on the same ones: "
    "--data.train-split all --data.val-split all."
)


def held_out(
    names: Sequence[str], fraction: float, group: Callable[[str], str] = str, *, last: bool = False,
    fix: str = _ADD,
) -> frozenset[str]:  # fmt: skip
    """A share of the names: whole groups, those with the smallest hash (`last`: the largest), until it is reached.

    At least one group, and at least one is left over; raises `UserError` for fewer than two. It depends on the names
    alone, and a larger share holds a smaller one.
    """
    groups = _grouped(names, group)
    if len(groups) < 2:
        grouped = len(names) > len(groups)
        raise explain(
            "groups to split" if grouped else "images to split",
            found=len(groups),
            needed="at least 2",
            fix=fix,
        )
    ordered = sorted(groups, key=_hash, reverse=last)
    wanted, chosen = max(1, round(len(names) * fraction)), list[str]()
    for key in ordered[:-1]:
        if chosen and len(chosen) + len(groups[key]) / 2 > wanted:
            break
        chosen += groups[key]
    return frozenset(chosen)


def folds_of(
    names: Sequence[str], folds: int, group: Callable[[str], str] = str, *, fix: str = "Take fewer, or add pictures."
) -> dict[str, int]:
    """Name -> the fold that it is in, from 0: whole groups, in the order of their hashes each to the smallest fold.

    Raises:
        UserError: fewer groups than folds.
    """
    groups = _grouped(names, group)
    if len(groups) < folds:
        raise explain(
            f"--data.folds {folds}",
            found=f"{len(groups)} {'groups of pictures' if len(names) > len(groups) else 'pictures'}",
            needed="at least one a fold",
            fix=fix,
        )
    sizes, fold_of = [0] * folds, dict[str, int]()
    for key in sorted(groups, key=_hash):
        fold = sizes.index(min(sizes))
        sizes[fold] += len(groups[key])
        fold_of |= dict.fromkeys(groups[key], fold)
    return {name: fold_of[name] for name in names}


def group_of(pattern: str | None, names: Collection[str]) -> Callable[[str], str]:
    """`group_function`; raises `UserError` for a pattern that matches none of the names."""
    group = group_function(pattern)
    if pattern is not None and not any(matched(pattern, name) for name in names):
        raise explain(
            f"--data.group-by {pattern}",
            found=f"no match in any of {len(names)} names (such as {next(iter(names), None)})",
            needed="an expression that matches names of pictures, without their endings",
            fix="Correct it: no pictures would stay together.",
        )
    return group


def group_function(pattern: str | None) -> Callable[[str], str]:
    """Name -> its group: what the groups of the pattern match (all of the match without groups); else the name.

    The pattern is looked for in the name with its folder, patient0/7, and where it is not there, in 7 alone.

    Raises:
        UserError: no regular expression.
    """
    if pattern is None:
        return str
    try:
        re.compile(pattern)
    except re.error as error:
        raise explain(
            f"--data.group-by {pattern}", found=str(error), needed="a regular expression", fix=r"Such as '^(\w+)_\d+$'."
        ) from None

    def group(name: str) -> str:
        found = matched(pattern, name)
        if found is None:
            return name
        return "/".join(part or "" for part in found.groups()) if found.groups() else found.group()

    return group


def matched(pattern: str, name: str) -> re.Match[str] | None:
    return re.search(pattern, name) or re.search(pattern, Path(name).name)


def eyes_in(names: Sequence[str]) -> str | None:
    """`EYES` where the names tell a person's left and right eye apart: nine in ten do, and most have the other."""
    found = Counter(match.group(1) for name in names if (match := re.search(EYES, name)))
    both = sum(count for count in found.values() if count > 1)
    return EYES if both and found.total() >= 0.9 * len(names) and 2 * both >= len(names) else None


def are_numbered(folders: Collection[str]) -> bool:
    """Whether folders differ in numbers alone, as those of patients and parts do, and none is a split or a kind."""
    shapes = {re.sub(r"\d+", "0", folder) for folder in folders}
    return len(folders) >= _FEWEST_FOLDERS and len(shapes) == 1 and "0" in shapes.pop()


def _grouped(names: Sequence[str], group: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group(name), []).append(name)
    return groups


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()  # of no UTF-8: by its bytes
