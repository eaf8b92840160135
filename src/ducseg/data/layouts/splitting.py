"""Which pictures of a folder are a split: names mean what they say, and every choice follows from file names alone.

A split is "all", a folder of that name (training, valid, validation and testing are also found as train, val and test),
a text file with one name a line (or a table, names first), or a share: where there is no folder for "val" or "test",
`val_fraction` and `test_fraction` of the pictures are held out of what "train" would be. Where no folder is called like
a split (sites, cameras), that is all of them. `group_by` keeps pictures together. "train+val" is both. With `folds`,
all pictures but those of "test" are parted into so many, one of which is "val" and the others "train".
"""

import filecmp
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from ducseg.data.config import DataConfig
from ducseg.data.layouts.grouping import folds_of, group_of, held_out
from ducseg.errors import UserError, explain, listed
from ducseg.files import composed

__all__ = ["Member", "NoSplit", "are_splits", "are_splits_or_none", "members_of"]


class NoSplit(UserError):
    """There is no such split; `found` is what the message says of it."""

    found = ""


Member = tuple[str, str]
"""(folder of the split, name); the folder of unsorted pictures is ""."""

_ALIASES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}


_FIRST = re.compile(r"[\s,;]")
"""What ends the first word of a line, or the first column of a table."""


def members_of(split: str, folders: Mapping[str, Sequence[str]], config: DataConfig, root: Path) -> list[Member]:
    """The pictures of a split, in the order of their names (of a list: in its order).

    Args:
        split: as the configuration or the user names it.
        folders: folder -> names of its pictures; "" alone where they are not sorted.
        root: where a list may lie, beside the working directory.

    Raises:
        UserError: no such split, a list with names that are not there, too few pictures or groups to hold some out.
    """
    everything = [(folder, name) for folder, names in folders.items() for name in names]
    if split == "all":
        return everything
    listed = _list(split, everything, root)
    if listed is not None:
        return listed
    if "+" in split and split not in folders:
        each = (members_of(part, folders, config, root) for part in split.split("+"))
        return list(dict.fromkeys(chain.from_iterable(each)))
    folder = _folder_of(split, folders)
    kind = next((kind for kind, names in _ALIASES.items() if split in names), None)
    if config.folds is not None and kind is not None and (kind != "test" or folder is None):
        parts = _fold_parts(folders, config, config.folds)
        if kind not in parts:
            raise _no_split(split, folders, config)
        return parts[kind]
    if folder is not None and kind != "train":
        return [(folder, name) for name in folders[folder]]
    bases = _training_folders(folders, config)
    by_share = config.dataset == "folder"
    if not by_share or not bases or (folder is not None and folder not in bases) or kind is None:
        if folder is not None:
            return [(folder, name) for name in folders[folder]]
        raise _no_split(split, folders, config)
    base = [(folder, name) for folder in bases for name in folders[folder]]
    if not base:
        raise explain(
            f"split {split!r}",
            found=f"no pictures{' in ' if any(bases) else ''}{', '.join(bases)}",
            needed="some to train on",
            fix="Put them there, or say which they are: --data.train-split.",
        )
    parts = _parts(base, everything, folders, config, root)
    if kind not in parts:
        raise _no_split(split, folders, config)
    return parts[kind]


def _training_folders(folders: Mapping[str, Sequence[str]], config: DataConfig) -> list[str]:
    """Those whose pictures are "train", before some are held out."""
    if "" in folders:
        return [""]
    if are_splits(folders):
        train = _folder_of("train", folders)
        return [] if train is None else [train]
    return [folder for folder in folders if folder != config.val_split]


def _parts(
    base: list[Member], everything: list[Member], folders: Mapping[str, Sequence[str]], config: DataConfig, root: Path
) -> dict[str, list[Member]]:
    """What the pictures of `base` are parted into: train, and val and test where they have no folder of their own."""
    elsewhere: set[Member] = set()
    listed = {split: _list(split, everything, root) for split in (config.train_split, config.val_split)}
    if listed[config.val_split] is not None:
        elsewhere = set(listed[config.val_split] or ())
    rest = [member for member in base if member not in elsewhere]
    if listed[config.train_split] is not None:
        taken = set(listed[config.train_split] or ())
        return {"train": rest, "val": [member for member in rest if member not in taken]}
    names = _distinct(rest)
    group = group_of(config.group_by, names)
    unsorted = _folder_of("train", folders) is None
    parts: dict[str, list[Member]] = {}
    by_share = _folder_of(config.val_split, folders) is None and _folder_of("val", folders) is None
    by_share = by_share and listed[config.val_split] is None
    if by_share and (unsorted or config.val_split in _ALIASES["val"]):
        validation = held_out(tuple(names), config.val_fraction, group)
        parts["val"] = [member for name, member in names.items() if name in validation]
    if config.test_fraction and _folder_of("test", folders) is None:
        testing = held_out(tuple(names), config.test_fraction, group, last=True)
        parts["test"] = [member for name, member in names.items() if name in testing]
    taken = {member for members in parts.values() for member in members}
    twice = len(taken) < sum(map(len, parts.values()))
    parts["train"] = [member for member in rest if member not in taken]
    if not parts["train"] or twice:
        raise explain(
            "groups to split",
            found=f"{len({group(key) for key in names})} of {len(names)} pictures",
            needed="one at least for each of training, validation and testing",
            fix="Choose smaller shares, or another --data.group-by.",
        )
    return parts


def _fold_parts(folders: Mapping[str, Sequence[str]], config: DataConfig, folds: int) -> dict[str, list[Member]]:
    """The pictures of the fold as val, of the others as train; test where a share is held out."""
    inside = dict.fromkeys([*_training_folders(folders, config), _folder_of("val", folders)])
    names = _distinct([(folder, name) for folder in inside if folder is not None for name in folders[folder]])
    group = group_of(config.group_by, names)
    testing, fix = frozenset[str](), "Take fewer folds, or add pictures."
    if config.test_fraction and _folder_of("test", folders) is None:
        fix = "Take fewer folds or a smaller --data.test-fraction, or add pictures."
        testing = held_out(tuple(names), config.test_fraction, group, last=True, fix=fix)
    fold_of = folds_of([name for name in names if name not in testing], folds, group, fix=fix)
    parts: dict[str, list[Member]] = {"train": [], "val": []}
    for name, fold in fold_of.items():
        parts["val" if fold == config.fold else "train"].append(names[name])
    return parts | ({"test": [names[name] for name in names if name in testing]} if testing else {})


def _distinct(members: Sequence[Member]) -> dict[str, Member]:
    """The pictures by their names, those of several folders by the folder's too."""
    several = len({folder for folder, _ in members}) > 1
    return {f"{folder}/{name}" if several else name: (folder, name) for folder, name in members}


def are_splits(folders: Collection[str]) -> bool:
    """Whether one at least is called like a split; else (sites, cameras, patients) "train" is the pictures of all."""
    return any(_folder_of(split, folders) is not None for split in _ALIASES)


def are_splits_or_none(folders: Collection[str]) -> bool:
    """Whether folders `are_splits`, or pictures are not sorted into any (""): then none has another meaning."""
    return "" in folders or are_splits(folders)


def _folder_of(split: str, folders: Collection[str]) -> str | None:
    """The folder of this name, or of another name of the same split."""
    if split in folders:
        return split
    same = next((names for names in _ALIASES.values() if split in names), ())
    return next((folder for folder in folders if folder.lower() in same), None)


def _list(split: str, everything: list[Member], root: Path) -> list[Member] | None:
    """The pictures that a text file names, or several joined by "+"; None: the split is no file."""
    paths = [path for path in (Path(split).expanduser(), root / split) if path.is_file()]
    if len(paths) == 2 and not filecmp.cmp(paths[0], paths[1], shallow=False):
        here, there = (path.resolve() for path in paths)
        raise explain(
            f"split list {split}",
            found=f"two that differ, {here} and {there}",
            needed="one",
            fix="Give the whole path of the one that is meant.",
        )
    if not paths:
        if "+" in split:
            parts = [_list(part, everything, root) for part in split.split("+")]
            joined = dict.fromkeys(chain.from_iterable(filter(None, parts)))
            return None if None in parts else list(joined)
        if split.endswith((".txt", ".csv")):
            raise explain(
                f"split list {split}",
                found="no such file",
                needed="one name a line",
                fix=f"Put it there, or in {root}.",
            )
        return None
    try:
        lines = [line.strip() for line in paths[0].read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise explain(f"split list {paths[0]}", found=str(error), needed="one name a line", fix="Correct it.") from None
    wanted = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    of_name: dict[str, list[Member]] = {}
    for folder, name in everything:
        of_name.setdefault(name, []).append((folder, name))
        of_name.setdefault(f"{folder}/{name}", []).append((folder, name))
    found = {line: _named(line, of_name) or _named(_FIRST.split(line)[0].strip("\"'"), of_name) for line in wanted}
    if paths[0].suffix.lower() == ".csv" and wanted and not found[wanted[0]]:
        del found[wanted[0]]  # the columns' names
    lost = [line for line, members in found.items() if len(members) != 1]
    if lost or not wanted:
        raise explain(
            f"split list {paths[0]}",
            found=f"{listed(lost)}, which are no one picture" if lost else "no name",
            needed="names of pictures, one a line",
            fix="Correct the list, or add the pictures.",
        )
    return list(dict.fromkeys(members[0] for members in found.values()))


def _named(line: str, of_name: Mapping[str, list[Member]]) -> list[Member]:
    """The pictures that a line can mean: a name, a path from the end, either with or without suffix."""
    path = PurePosixPath(composed(line).replace("\\", "/"))  # also as Windows writes it
    for name in (composed(line), str(path.with_suffix("")), f"{path.parent.name}/{path.stem}", path.stem):
        if name in of_name:
            return of_name[name]
    return []


def _no_split(split: str, folders: Mapping[str, Sequence[str]], config: DataConfig) -> NoSplit:
    if "" in folders and config.dataset == "folder":
        needed = '"train", "val" or "all"' + ("" if config.test_fraction == 0 else ', or "test"')
        found = "no sub-folder of this name, and no share of the pictures"
        fix = "Hold a share out with --data.test-fraction 0.2." if split in _ALIASES["test"] else "Use one of these."
    else:
        found = f"no sub-folder of this name (there are: {', '.join(filter(None, folders)) or 'none'})"
        needed, fix = 'one of these, "all", or a text file with names', "Use one of these, or add the sub-folders."
    error = NoSplit(explain(f"split {split!r}", found=found, needed=needed, fix=fix))
    error.found = found
    return error
