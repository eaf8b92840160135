"""Options that several commands share, each spelled once; a command's `Options` inherits those it has."""

import difflib
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ducseg.cores import available_cores
from ducseg.errors import UserError, explain

if TYPE_CHECKING:
    from ducseg.classes import ClassSet
    from ducseg.data.paired import SegmentationDataset
    from ducseg.inference.examples import Example
    from ducseg.inference.labeller import AveragingLabeller, Labeller
    from ducseg.inference.predict_files import PredictReport
    from ducseg.metrics.thin import ThinCounts

__all__ = [
    "Batch", "DataRoot", "Examples", "Figure", "File", "Folder", "Kinds", "Network", "RefinedNetwork", "Scored", "Thin",
    "Workers", "class_list", "folded", "help_text", "print_scores", "report", "unknown",
]  # fmt: skip

Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
File = Annotated[Path, tyro.conf.arg(metavar="FILE")]
Kinds = tuple[Literal["labels", "color", "overlay", "confidence", "polygons", "probabilities"], ...]


def class_list(given: Path) -> "ClassSet":
    """The classes of a classes.json, a model.json, or a run or checkpoint folder; raises `UserError` for others."""
    from ducseg.classes import ClassSet
    from ducseg.files import find_checkpoint

    checkpoint = find_checkpoint(given) if given.is_dir() else None
    return ClassSet.read(given if checkpoint is None else checkpoint / "model.json")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A trained network and how it looks at a picture."""

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint or run folder (then its best checkpoint), an id on the Hugging Face Hub, or an exported file."""
    ensemble: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="CHECKPOINT ...")] = None
    """Further networks of the same classes, such as the other folds': the probabilities of all are averaged."""
    scales: tuple[float, ...] = (1.0,)
    """The probabilities are averaged over these sizes."""
    flip: bool = False
    """Average over the mirrored picture too."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    bf16: bool = False
    """Compute in bfloat16: about twice as fast; labels differ slightly. In float32 on hardware without it."""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The network, and the further ones of --ensemble."""
        return self.checkpoint, *(self.ensemble or ())

    def look(self) -> dict[str, Any]:
        """How it looks at a picture, for JSON."""
        return {"scales": list(self.scales), "flip": self.flip, **({"bf16": True} if self.in_bf16() else {})}

    def in_bf16(self) -> bool:
        """Whether --bf16 is given and the device has it."""
        from ducseg.devices import has_bf16, pick_device

        return self.bf16 and has_bf16(pick_device(self.device))

    def opened_network(self, *, probabilities: bool = False) -> "AveragingLabeller":
        """The network on its device; raises UserError as `open_labeller`."""
        from ducseg.devices import pick_device
        from ducseg.inference.onnx_predictor import onnx_device
        from ducseg.inference.opening import is_exported, open_labeller

        def opened(checkpoint: str) -> "AveragingLabeller":
            device = (onnx_device if is_exported(checkpoint) else pick_device)(self.device)
            return open_labeller(
                checkpoint, device, scales=self.scales, flip=self.flip, bf16=self.bf16,
                probabilities=probabilities or self.ensemble is not None,
            )  # fmt: skip

        if self.ensemble is None:
            return opened(self.checkpoint)
        if not self.ensemble:
            raise explain("--ensemble", found="no network", needed="one or more", fix="Name them, or leave it out.")
        from ducseg.inference.ensemble import Ensemble

        return Ensemble([opened(checkpoint) for checkpoint in self.checkpoints])


@dataclass(frozen=True, kw_only=True)
class RefinedNetwork(Network):
    """A trained network, followed by the dense CRF where that is asked for."""

    crf: tuple[File, ...] | None = None
    """Refine with the dense CRF: with the paper's settings, those of a JSON file of crf-tune, or deeplabv2's or gcrf's
    by that name."""

    def look(self) -> dict[str, Any]:
        """How it looks at a picture, for JSON, "crf" with what --crf names."""
        return super().look() | ({} if self.crf is None else {"crf": list(map(str, self.crf))})

    def labeller(self, *, probabilities: bool = False) -> "Labeller":
        """The network, with --crf followed by the CRF; raises UserError as `open_labeller` and `crf_settings`."""
        if self.crf is None:
            return self.opened_network(probabilities=probabilities)
        from ducseg.inference.refine import CrfLabeller, crf_settings

        settings = crf_settings(self.crf)  # a wrong file is refused before the network is read
        return CrfLabeller(self.opened_network(probabilities=True), *settings)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How many pictures go through the network at once."""

    batch_size: int = 1
    """So many pictures of one size, where they follow each other, go through the network at once (a GPU gains)."""


@dataclass(frozen=True, kw_only=True)
class DataRoot:
    """Where the data set lies that a network was trained on."""

    split: str | None = None
    """Of the data set; default: the one the run validated on."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR", aliases=["--data.root"])] = None
    """Where the data set lies now; default: where it lay in training."""
    data_images: Annotated[str | None, tyro.conf.arg(metavar="DIR", aliases=["--data.images"])] = None
    """The pictures' folder there; default: as in training."""
    data_masks: Annotated[str | None, tyro.conf.arg(metavar="DIR", aliases=["--data.masks"])] = None
    """The masks' folder there; default: as in training."""

    def opened(self, checkpoint: str) -> "tuple[SegmentationDataset, str]":
        """The data set at --data-root and the name of its split; raises UserError as `open_trained_on`."""
        from ducseg.inference.trained_on import open_trained_on

        return open_trained_on(
            checkpoint, split=self.split, root=self.data_root, images=self.data_images, masks=self.data_masks
        )

    def group(self, checkpoint: str) -> "Callable[[str], str]":
        """Name of a picture -> what it belongs to, as --data.group-by of the training tells; raises as `opened`."""
        from ducseg.data.layouts.grouping import group_function
        from ducseg.inference.trained_on import trained_on

        return group_function(trained_on(checkpoint, root=self.data_root).group_by)

    def warn_of_learned(self, checkpoints: tuple[str, ...], dataset: "SegmentationDataset") -> None:
        """Say which networks but the first, which opened the data set, were trained on pictures of it."""
        from ducseg.inference.trained_on import learned_notes

        for note in learned_notes(
            checkpoints[1:], dataset, beside=checkpoints[0],
            root=self.data_root, images=self.data_images, masks=self.data_masks,
        ):  # fmt: skip
            print(f"warning: {note}")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Where a figure goes, and how wide it is."""

    out: Annotated[File, tyro.conf.arg(metavar="FILE.pdf|FILE.svg|FILE.png")]
    """The figure: .pdf or .svg (letters and lines as vectors) or .png (300 dots an inch)."""
    width: float = 7.2
    """In inches: 7.2 is a page, 3.5 a column."""

    @property
    def inches(self) -> float:
        """--width; raises UserError where no figure is so wide."""
        if not 1 <= self.width <= 100:
            raise explain("--width", found=self.width, needed="1 to 100 inches", fix="7.2 is a page, 3.5 a column.")
        return self.width

    @staticmethod
    def titled(checkpoints: tuple[str, ...], titles: tuple[str, ...]) -> dict[str, str]:
        """Networks by their titles, else the last parts of their paths, or the paths where these are equal."""
        names = titles or tuple(Path(one).name or one for one in checkpoints)
        names = names if titles or len(set(names)) == len(names) else checkpoints
        if not checkpoints or len(names) != len(checkpoints) or len(set(names)) != len(names):
            found = f"{len(checkpoints)} networks, titles {', '.join(names) or 'none'}"
            raise explain("figure", found=found, needed="different networks, a title each or none", fix="Correct them.")
        return dict(zip(names, checkpoints))


@dataclass(frozen=True, kw_only=True)
class Examples(DataRoot, Figure):
    """Networks, and the pictures on which a figure shows them."""

    checkpoints: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CHECKPOINT")]
    """Checkpoints or run folders, ids on the Hugging Face Hub, exported files: a column each."""
    pictures: tuple[str, ...] = ()
    """Files, folders and globs (default: the data set that the first network was trained on, with its truth)."""
    count: int = 3
    """So many pictures, spread evenly."""
    names: tuple[str, ...] = ()
    """Of the data set: these pictures, by their names."""
    titles: tuple[str, ...] = ()
    """Of the networks in the figure (default: the names of their folders)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def networks(self) -> "dict[str, AveragingLabeller]":
        """The networks by their titles; raises UserError as `open_labeller`."""
        from ducseg.devices import pick_device
        from ducseg.inference.opening import open_labeller

        named, device = self.titled(self.checkpoints, self.titles), pick_device(self.device)
        return {title: open_labeller(checkpoint, device) for title, checkpoint in named.items()}

    def examples(self, labellers: "Mapping[str, Labeller]") -> "list[Example]":
        """Pictures with what these make of them; raises UserError as `examples_of`."""
        from ducseg.inference.examples import examples_of

        of_data = {"--split": self.split, "--data-root": self.data_root, "--names": self.names or None}
        given = [name for name, value in of_data.items() if value is not None]
        if self.pictures and given:
            needed = "--pictures, or the data set's own"
            raise explain("figure", found=f"--pictures and {' and '.join(given)}", needed=needed, fix="Leave one out.")
        source = self.pictures or self.opened(self.checkpoints[0])[0]
        return examples_of(labellers, source, count=self.count, names=self.names)

    def draw(self, labellers: "Mapping[str, Labeller]") -> int:
        """A row a picture: itself, its truth, what each of these makes of it."""
        from ducseg.figures.sheet import draw_sheet

        examples = self.examples(labellers)
        known = [] if examples[0].truth is None else ["ground truth"]
        rows = [[one.image, *([] if one.truth is None else [one.truth]), *one.labels.values()] for one in examples]
        classes = next(iter(labellers.values())).classes
        draw_sheet(self.out, rows, classes, titles=["input", *known, *labellers], width=self.inches)
        print(f"figure: {self.out}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Thin:
    """Scores of thin objects."""

    thin: bool = False
    """Also recall and precision by the width of objects, clDice, F1 within some pixels, and AUC of two classes."""
    tolerances: tuple[float, ...] = ()
    """Within how many pixels something counts as found; implies --thin, with which it is 0 1 2 5."""
    boundary_width: int | None = None
    """Width in pixels of the band of its Boundary IoU; implies --thin, with which it is 2."""
    figure: File | None = None
    """Also draw recall and precision by width there (PNG); implies --thin."""

    def thin_counts(self, num_classes: int, *, wanted: bool = False) -> "ThinCounts | None":
        """Empty counts where they are asked for, or `wanted` anyway; raises UserError for other numbers."""
        implied = self.tolerances or self.boundary_width is not None or self.figure is not None
        if not (wanted or self.thin or implied):
            return None
        from ducseg.metrics.thin import ThinCounts

        tolerances = self.tolerances or (0, 1, 2, 5)
        width = 2 if self.boundary_width is None else self.boundary_width
        return ThinCounts(num_classes, tolerances=tolerances, boundary_width=width)

    def show(self, found: "dict[str, Any]") -> None:
        """Print the tables of "thin" in the scores, where it is there, and draw the figure that is asked for."""
        if "thin" not in found:
            return
        from rich.console import Console

        from ducseg.metrics.thin import format_thin_tables

        Console().print(*format_thin_tables(found["thin"]))
        if self.figure is not None:
            from ducseg.figures.width_bars import draw_width_figure

            draw_width_figure(found["thin"], self.figure)


def print_scores(found: "dict[str, Any]") -> None:
    """Print the table of scores, and how far they would move with other pictures, where that is known."""
    from rich.console import Console

    from ducseg.metrics.confusion import format_table
    from ducseg.metrics.intervals import interval_line

    Console().print(format_table(found))
    if "intervals" in found:
        print(interval_line(found["intervals"]))


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many processes work."""

    workers: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: one a core)")] = field(
        default_factory=available_cores
    )
    """Processes."""


@dataclass(frozen=True, kw_only=True)
class Scored(Workers):
    """Folders of a score and where it goes."""

    pred: Folder
    """Folder of predictions, searched with its sub-folders."""
    gt: Folder
    """Folder of the ground truth."""
    subset: bool = False
    """Score only what is predicted, and say so, instead of refusing an incomplete folder."""
    json: File | None = None
    """Also write the scores there."""


@dataclass(frozen=True, kw_only=True)
class PerPicture:
    """Each picture's scores too."""

    csv: File | None = None
    """Also write each picture's IoU, Dice and pixels there, a line a picture and class."""


def report(found: "PredictReport", out: Path | str, done: str) -> int:
    """Say what came of each picture; the exit status: 1 where one failed."""
    print(f"{len(found.written)} of {len(found.written) + len(found.failed)} pictures {done} into {out}")
    for name, note in found.notes:
        print(f"{name}: {note}")
    for name, message in found.failed:
        print(f"not {done}: {message if str(name) in message else f'{name}: {message}'}")
    return 1 if found.failed else 0


def folded(text: str, *, first: str = "") -> str:
    """Each line of a text folded at words to the terminal's width (80 in a pipe), hanging below what comes `first`."""
    width, lines = shutil.get_terminal_size().columns, []
    for line in text.splitlines():
        indent = " " * (len(first) or len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line.strip(), width, initial_indent=first or indent, subsequent_indent=indent,
            break_long_words=False, break_on_hyphens=False,
        ) or [""]  # fmt: skip
    return "\n".join(lines)


def help_text(options: object) -> str:
    """The docstring of a command's options for tyro, which keeps a line break only before what is indented."""
    paragraphs = (getdoc(options) or "").split("\n\n")
    width = shutil.get_terminal_size().columns
    return "\n\n".join(textwrap.fill(paragraph, width, subsequent_indent="  ") for paragraph in paragraphs)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of `known`, with the closest one."""
    close = difflib.get_close_matches(name, list(known), n=1)
    meant = f"Did you mean {close[0]}?" if close else "Pick one of these."
    return explain(kind, found=repr(name), needed=f"one of {', '.join(known)}", fix=meant)
