"""Which pictures of a folder are a split: names mean what they say, and every choice follows from file names alone.

A split is "all", a folder of that name (training, valid, validation and testing are also found as train, val and test),
a text file with one name a line, or a share: where there is no folder for "val" or "test", `val_fraction` and
`test_fraction` of the pictures are held out of what "train" would be. Where no folder is called like a split (sites,
cameras), that is all of them. `group_by` keeps pictures together. "train+val" is both.
"""

import filecmp
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from ducseg.data.config import DataConfig
from ducseg.errors import UserError, explain, listed

__all__ = [
    "EYES", "Member", "NoSplit", "are_splits", "copies_note", "eyes_in", "folder_note", "group_function", "group_note",
    "held_out", "members_of", "series_note", "split_note",
]  # fmt: skip


class NoSplit(UserError):
    """There is no such split; `found` is what the message says of it."""

    found = ""


Member = tuple[str, str]
"""(folder of the split, name); the folder of unsorted pictures is ""."""

EYES = r"(?:^|/)([^/]*\d)[-_ ]?(?:L|R|OD|OS|left|right)(?![A-Za-z0-9])"
"""A `group_by` that keeps both eyes of a person together: 01L and 01R, 7_OD and 7_OS."""

_SERIES = r"^(.*\D)\d+$"
"""A `group_by` that keeps together what differs in the last number of its name alone: clip7_0001 and clip7_0002."""

_ALIASES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}


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
    several = len({folder for folder, _ in rest}) > 1
    names = {f"{folder}/{name}" if several else name: (folder, name) for folder, name in rest}
    group = group_function(config.group_by)
    if config.group_by is not None and not any(_matched(config.group_by, name) for name in names):
        raise explain(
            f"--data.group-by {config.group_by}",
            found=f"no match in any of {len(names)} names (such as {next(iter(names), None)})",
            needed="an expression that matches names of pictures, without their endings",
            fix="Correct it: no pictures would stay together.",
        )
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


def held_out(
    names: Sequence[str], fraction: float, group: Callable[[str], str] = str, *, last: bool = False
) -> frozenset[str]:
    """A share of the names: whole groups, those with the smallest hash (`last`: the largest), until it is reached.

    At least one group, and at least one is left over; raises `UserError` for fewer than two. It depends on the names
    alone, and a larger share holds a smaller one.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group(name), []).append(name)
    if len(groups) < 2:
        grouped = len(names) > len(groups)
        raise explain(
            "groups to split" if grouped else "images to split",
            found=len(groups),
            needed="at least 2",
            fix="Add images, or train and validate on the same ones: --data.train-split all --data.val-split all.",
        )
    ordered = sorted(groups, key=lambda key: hashlib.sha256(key.encode()).digest(), reverse=last)
    wanted, chosen = max(1, round(len(names) * fraction)), list[str]()
    for key in ordered[:-1]:
        if chosen and len(chosen) + len(groups[key]) / 2 > wanted:
            break
        chosen += groups[key]
    return frozenset(chosen)


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
        found = _matched(pattern, name)
        if found is None:
            return name
        return "/".join(part or "" for part in found.groups()) if found.groups() else found.group()

    return group


def _matched(pattern: str, name: str) -> re.Match[str] | None:
    return re.search(pattern, name) or re.search(pattern, Path(name).name)


def eyes_in(names: Sequence[str]) -> str | None:
    """`EYES` where the names tell a person's left and right eye apart: nine in ten do, and most have the other."""
    found = Counter(match.group(1) for name in names if (match := re.search(EYES, name)))
    both = sum(count for count in found.values() if count > 1)
    return EYES if both and found.total() >= 0.9 * len(names) and 2 * both >= len(names) else None


def group_note(pattern: str, train: Iterable[str], validation: Iterable[str]) -> str | None:
    """What is to be said where ids of one group are in both splits, as folders and lists can have it."""
    group = group_function(pattern)
    mine, others = ({group(name) for name in names if _matched(pattern, name)} for names in (train, validation))
    both = sorted(mine & others)
    more = f" and {len(both) - 3} more" if len(both) > 3 else ""
    named = f"{', '.join(both[:3])}{more}"
    return f"groups of --data.group-by with training and validation pictures: {named}" if both else None


def folder_note(folders: Mapping[str, Iterable[Path]], train: Iterable[Path], validation: Iterable[Path]) -> str | None:
    """What is to be said where folders, no splits but such as patients, have pictures in both splits."""
    if len(folders) < 2:
        return None
    train, validation = set(train), set(validation)
    both = [folder for folder, files in folders.items() if train & (here := set(files)) and validation & here]
    if not both:
        return None
    return (
        f"groups: none; {listed(both, 3)} of {len(folders)} folders with training and validation pictures. If the "
        "pictures of a folder belong together, as a patient's do: --data.group-by '^([^/]+)/'"
    )


def series_note(train: Sequence[str], validation: Sequence[str]) -> str | None:
    """What is to be said where ids run in three series or more, clip7_0001, clip7_0002, ..., cut by the splits."""
    mine, others = (
        [match[1] for name in names if (match := re.search(_SERIES, name))] for names in (train, validation)
    )
    both = sorted(set(mine) & set(others))
    if len({*mine, *others}) < 3 or 2 * sum(series in both for series in others) < len(validation):
        return None
    return (
        f"groups: none; {listed(both, 3)}, series of names, with training and validation pictures. If a series belongs "
        f"together, as frames of a clip or tiles of a picture do: --data.group-by '{_SERIES}'"
    )


def split_note(train: Sequence[Path], validation: Sequence[Path]) -> str | None:
    """What is to be said where the pictures of one split are also in the other."""
    both = len(set(train) & set(validation))
    if not both:
        return None
    if both == len(set(validation)) == len(set(train)):
        return f"the {both} validation pictures are the training pictures: scores say nothing about other pictures"
    return f"{both} of the {len(set(validation))} validation pictures are training pictures too"


def copies_note(train: Iterable[Path], validation: Iterable[Path]) -> str | None:
    """What is to be said where files of both splits are equal byte by byte."""
    train = set(train)
    learned, held = sorted(train), sorted(set(validation) - train)
    told_by: Callable[[Path], object]
    for told_by in (_size, _middle, _digest):  # each of them of those that the one before did not tell apart
        ours, theirs = ({path: told_by(path) for path in paths} for paths in (learned, held))
        both = {*ours.values()} & {*theirs.values()}
        learned, held = ([path for path, told in of.items() if told in both] for of in (ours, theirs))
    if not held:
        return None
    first = {told: path for path, told in reversed(ours.items())}
    other, path = held[0], first[theirs[held[0]]]
    return (
        f"copies: validation pictures that are training pictures too, byte by byte: {len(held)}, such as {other} and "
        f"{path}; scores are too good for that, and ducseg data check names them all"
    )


def _size(path: Path) -> int:
    return path.stat().st_size


def _middle(path: Path) -> tuple[int, bytes]:
    """The size, and some bytes in which pictures differ: not the header, and no border."""
    size = _size(path)
    with path.open("rb") as file:
        file.seek(size // 2)
        return size, file.read(1 << 12)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def are_splits(folders: Collection[str]) -> bool:
    """Whether one at least is called like a split; else (sites, cameras, patients) "train" is the pictures of all."""
    return any(_folder_of(split, folders) is not None for split in _ALIASES)


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
        if split.endswith(".txt"):
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
    found = {line: _named(line, of_name) or _named(line.split()[0], of_name) for line in wanted}
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
    path = Path(line)
    for name in (line, str(path.with_suffix("")), f"{path.parent.name}/{path.stem}", path.stem):
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
