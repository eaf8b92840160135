"""The doctor of data sets: every file once, everything wrong with them in one report.

Errors stop training or falsify scores: missing partners, unreadable files, files of the wrong mode, sizes and places
that differ, values that no class has, train ids in place of label ids, the same picture or drive in two splits, empty
splits.
Warnings are worth a look: pictures that occur twice, unusual modes, classes that no training picture shows, or no
validation picture.
Folders that are no splits (sites, cameras) are the one set of pictures that training takes them for.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.check.files import Examined, Examiner, Pair
from ducseg.data.config import OWN_CLASSES, DataConfig
from ducseg.data.counting import count_pixels
from ducseg.data.layouts.layout import LabelRules, Layout, SplitFiles
from ducseg.data.layouts.opening import grouped_by_names, open_layout
from ducseg.data.layouts.splitting import members_of
from ducseg.data.paired import no_such_data
from ducseg.data.processes import mapped
from ducseg.errors import UserError, explain, listed

__all__ = ["Finding", "Report", "SplitReport", "check_dataset", "joined"]

WARNINGS = frozenset({"unusual mode", "duplicate", "class never seen", "class not validated"})
_OF_SPLITS = ("train_split", "val_split", "val_fraction", "test_fraction", "group_by", "folds")
"""Options that say which pictures are a split."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: such as "stray values"; a warning if `WARNINGS` has it, else an error.
        splits: where.
        files: that it concerns.
        message: what was found, what is needed, how to go on.
    """

    kind: str
    splits: tuple[str, ...]
    files: tuple[str, ...]
    message: str

    @property
    def is_error(self) -> bool:
        """Whether training would stop or scores be wrong."""
        return self.kind not in WARNINGS


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What a split holds.

    Attributes:
        images, labels: numbers of files.
        sizes: "HxW" -> number of images.
        ignored_pixels: of all labels.
        classes: name -> {"pixels", "images" that show it}.
    """

    images: int
    labels: int
    sizes: Mapping[str, int]
    ignored_pixels: int
    classes: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `check_dataset` found; `notes` say how files were taken; `seconds` on `num_workers` processes it took.

    Where they are no splits (`Layout.are_splits`), `splits` are the folders.
    """

    dataset: str
    root: str
    notes: tuple[str, ...]
    splits: Mapping[str, SplitReport]
    findings: tuple[Finding, ...]
    num_workers: int
    seconds: float
    are_splits: bool = True

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are no warnings."""
        return tuple(finding for finding in self.findings if finding.is_error)

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-able dictionaries."""
        findings = [{"level": "error" if f.is_error else "warning", **asdict(f)} for f in self.findings]
        return {"ok": self.ok, **asdict(self), "findings": findings}


def joined(splits: Sequence[SplitReport]) -> SplitReport:
    """One report of several splits."""
    sizes = Counter[str]()
    for split in splits:
        sizes.update(split.sizes)
    return SplitReport(
        images=sum(split.images for split in splits),
        labels=sum(split.labels for split in splits),
        sizes=dict(sizes.most_common()),
        ignored_pixels=sum(split.ignored_pixels for split in splits),
        classes={
            name: {key: sum(split.classes[name][key] for split in splits) for key in ("pixels", "images")}
            for name in splits[0].classes
        },
    )


def check_dataset(
    config: DataConfig, *, num_workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Read every file of a data set once and report all that is wrong.

    Args:
        config: the data set, as training would be told of it.
        num_workers: processes.
        progress: called with (done, total) pairs of files.

    Raises:
        UserError: no such data set, options that it ignores, nothing of it in its root (an archive that was not
            unpacked), no classes, splits that cannot be drawn as the options say.
    """
    begin = time.perf_counter()
    layout = open_layout(config)
    grouped, groups = grouped_by_names(config, layout)
    if not layout.splits:
        if config.dataset == "folder":
            layout.open("all")  # raises as training does, with the folders that could be meant
        raise no_such_data(layout.name, layout.root, missing="none of it", layout=layout.needed)
    files = [layout.files(name) for name in layout.splits]
    if config.dataset == "folder" and not any(split.images or split.labels for split in files):
        layout.open("all")  # likewise, with the deeper folders that hold them
    _check_splits(layout, config)
    rules = layout.rules
    pairs = [pair for split in files for pair in _pairs(split)]
    examined = list(mapped(Examiner(rules, layout.pixels), pairs, num_workers, progress))
    by_split = {split.name: [one for one in examined if one.pair.split == split.name] for split in files}
    splits = {split.name: _statistics(split, by_split[split.name], rules) for split in files}
    return Report(
        dataset=config.dataset,
        root=str(config.root),
        notes=(*layout.lines, *_no_splits(layout), *groups, *_grey(examined, config), *_unpaired(examined, config)),
        splits=splits,
        findings=(
            *_masks(rules, layout),
            *_findings(layout, files, examined),
            *_never_seen(splits, layout),
            *_not_validated(splits, layout if grouped == config else open_layout(grouped), grouped),
        ),
        num_workers=num_workers,
        seconds=time.perf_counter() - begin,
        are_splits=layout.are_splits,
    )


def _check_splits(layout: Layout, config: DataConfig) -> None:
    """Raise, as training does, where options say of one's own pictures which are a split, and that cannot be."""
    given = [name for name in _OF_SPLITS if getattr(config, name) != getattr(DataConfig, name)]
    if given and config.dataset in OWN_CLASSES:
        names = {folder: tuple(split.images) for folder, split in layout.folders.items()}
        for split in (config.val_split, *[config.train_split] * ("train_split" in given)):
            members_of(split, names, config, layout.root)


def _pairs(split: SplitFiles) -> list[Pair]:
    labels = split.labels or {}
    return [
        Pair(
            split=split.name,
            id=name,
            image=split.images.get(name),
            label=labels.get(name),
            labelled=split.labels is not None,
        )
        for name in sorted(split.images.keys() | labels.keys())
    ]


def _statistics(split: SplitFiles, examined: list[Examined], rules: LabelRules) -> SplitReport:
    num_classes = len(rules.classes)
    pixels, images, ignored = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64), 0
    for counts in (one.counts for one in examined if one.counts is not None):
        own = _by_train_id(counts, rules.train_ids)
        pixels += own[:num_classes]
        images += own[:num_classes] > 0
        ignored += int(own[IGNORE])
    sizes = Counter(f"{one.size[0]}x{one.size[1]}" for one in examined if one.size is not None)
    return SplitReport(
        images=len(split.images),
        labels=len(split.labels or {}),
        sizes=dict(sizes.most_common()),
        ignored_pixels=ignored,
        classes={
            name: {"pixels": int(pixels[train_id]), "images": int(images[train_id])}
            for train_id, name in enumerate(rules.classes.names)
        },
    )


def _by_train_id(counts: NDArray[np.int64], train_ids: NDArray[np.uint8] | None) -> NDArray[np.int64]:
    if train_ids is None:
        return counts
    return np.bincount(train_ids, weights=counts, minlength=256).astype(np.int64)


def _no_splits(layout: Layout) -> Iterable[str]:
    if not layout.are_splits:
        named = f"folders: {listed(layout.splits, 3)}; none is called as a split is (train, val, test, ...)"
        yield f"{named}, so training takes the pictures of all and holds a share out"


def _grey(examined: list[Examined], config: DataConfig) -> Iterable[str]:
    """A line about all pictures of one channel of 8 bits together."""
    grey = sum(problem.kind == "grey" for one in examined for problem in one.problems)
    if grey:
        number = sum(one.pair.image is not None for one in examined)
        kept = "; --data.as-stored keeps the one channel" if config.dataset == "folder" and grey == number else ""
        yield f"{grey} of {number} pictures are grey (8 bits): they are taken as RGB of three equal channels{kept}"


def _unpaired(examined: list[Examined], config: DataConfig) -> Iterable[str]:
    """What training does about them, where it can."""
    number = sum(problem.kind == "missing partner" for one in examined for problem in one.problems)
    if number and config.dataset == "folder":
        yield (
            f"without a partner: {number}, which stop training; --data.skip-unpaired leaves them out, "
            "--data.unmasked-as background makes background of pictures without a mask"
        )


def _masks(rules: LabelRules, layout: Layout) -> Iterable[Finding]:
    """What speaks against all labels together."""
    if rules.problem is not None:
        yield Finding(kind="masks", splits=layout.splits, files=(), message=rules.problem)


def _findings(layout: Layout, files: list[SplitFiles], examined: list[Examined]) -> Iterable[Finding]:
    for split in files:
        if not split.images and (layout.are_splits or not any(one.images for one in files)):
            message = explain(
                f"split {split.name}", found="no images", needed="some", fix="Unpack them there, or remove the folder."
            )
            yield Finding(kind="empty split", splits=(split.name,), files=(), message=str(message))
        for twin in split.twins:
            yield Finding(kind="same name", splits=(split.name,), files=(), message=str(twin))
    for one in examined:
        for problem in (problem for problem in one.problems if problem.kind != "grey"):
            names = (str(problem.file),)
            yield Finding(kind=problem.kind, splits=(one.pair.split,), files=names, message=problem.message)
    yield from _same_content(examined, layout)
    if layout.sequence is not None and layout.are_splits:
        yield from _shared_drives(examined, layout.sequence)


def _same_content(examined: list[Examined], layout: Layout) -> Iterable[Finding]:
    """Images whose pixels are equal, in one split or, which is worse, in several."""
    groups = defaultdict(list)
    for one in examined:
        if one.content is not None:
            groups[one.size, one.content].append(one.pair)
    for pairs in groups.values():
        if len(pairs) > 1:
            splits = sorted({pair.split for pair in pairs})
            names = tuple(str(pair.image) for pair in pairs)
            leak = len(splits) > 1 and layout.are_splits
            message = explain(
                f"image {names[0]}",
                found=f"the same pixels in {', '.join(names[1:])}",
                needed="each picture in one split" if leak else "each picture once",
                fix=f"Take it out of {splits[0]} or {splits[1]}." if leak else "Remove the copies, or leave them.",
            )
            kind = "leak between splits" if leak else "duplicate"
            yield Finding(kind=kind, splits=tuple(splits), files=names, message=str(message))


def _shared_drives(examined: list[Examined], sequence: Callable[[str], str]) -> Iterable[Finding]:
    """Drives of which two splits have frames: neighbouring frames look alike."""
    drives = defaultdict(list)
    for one in examined:
        if (drive := sequence(one.pair.id)) != one.pair.id:  # else it belongs to none
            drives[drive].append(one.pair)
    for drive, pairs in drives.items():
        splits = sorted({pair.split for pair in pairs})
        if len(splits) > 1:
            message = explain(
                f"drive {drive}",
                found=f"frames in {' and '.join(splits)}",
                needed="each drive in one split",
                fix="Move its frames into one of them.",
            )
            names = tuple(str(pair.image or pair.label) for pair in pairs)
            yield Finding(kind="leak between splits", splits=tuple(splits), files=names, message=str(message))


def _never_seen(splits: Mapping[str, SplitReport], layout: Layout) -> Iterable[Finding]:
    """Classes of which the training split has no pixel, or none of folders that are no splits."""
    name = "train" if "train" in splits else next(iter(splits))
    looked = [name] if layout.are_splits else list(splits)
    missing = [one for one in splits[name].classes if not any(splits[split].classes[one]["pixels"] for split in looked)]
    read = any(sum(one["pixels"] for one in splits[split].classes.values()) for split in looked)
    if read and missing:
        message = explain(
            f"split {name}" if layout.are_splits else "all folders",
            found=f"no pixel of {', '.join(missing)}",
            needed="some of every class",
            fix="A network learns nothing about these: add pictures, or take the classes out.",
        )
        yield Finding(kind="class never seen", splits=tuple(looked), files=(), message=str(message))


def _not_validated(splits: Mapping[str, SplitReport], layout: Layout, config: DataConfig) -> Iterable[Finding]:
    """Classes that other pictures show, but not the validation split, or the share that is held out for it."""
    name, missing = config.val_split, list[str]()
    if config.dataset in OWN_CLASSES:
        with suppress(UserError):  # what is wrong with the files is said already
            missing = list(count_pixels(layout.open(name)).absent)
    elif name in splits and splits[name].labels:
        missing = [one for one, found in splits[name].classes.items() if not found["pixels"]]
    missing = [one for one in missing if any(split.classes[one]["pixels"] for split in splits.values())]
    if missing:
        message = explain(
            "validation",
            found=f"no pixel of {', '.join(missing)} in its pictures ({name})",
            needed="some of every class",
            fix="Their IoU there is 0 or missing, and 0 enters the mean: choose other pictures to validate on.",
        )
        where = tuple(split for split in splits if split.lower().startswith(("val", "dev"))) or layout.splits
        yield Finding(kind="class not validated", splits=where, files=(), message=str(message))
