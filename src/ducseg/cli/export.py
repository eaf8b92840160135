"""`ducseg export`: a network as one ONNX file, written if it answers as the network does."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ducseg.cli.options import DataRoot, File
from ducseg.errors import explain

if TYPE_CHECKING:
    from ducseg.export.pictures import ComparedOn
    from ducseg.models import Preprocessing

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(DataRoot):
    """Write a network as ONNX: pictures (N, H, W, C) of any size in, labels out, all steps between inside.

    Pictures are as the network was trained on: RGB of 8 bits, or other channels and types as stored. Before the file
    has its name, both label the same pictures; below 99.99 % equal labels nothing is written. Those are --check, else
    the validation split at --data-root, else drawn scenes. FILE.json beside it has the report.
    """

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint or run folder (then its best checkpoint), or an id on the Hugging Face Hub."""
    out: File
    """The file, FILE.onnx."""
    output: Literal["labels", "scores", "probabilities"] = "labels"
    """What it gives: labels uint8 (N, H, W), or float32 (N, classes, H, W), which --scales, --flip and --crf need."""
    check: tuple[str, ...] = ()
    """Files, folders and globs of pictures to compare on."""
    data_root: Annotated[Path | None, tyro.conf.arg(metavar="DIR", aliases=["--data.root"])] = None
    """Where the data set lies on which to compare; default: drawn scenes, with --split where it lay in training."""
    int8: tuple[str, ...] = ()
    """Quantise to 8 bits, calibrated on up to 32 of these pictures; layers that lose most stay in float."""
    int8_bound: float = 0.97
    """Agreement of the int8 labels with the float ones (mean IoU between them) that decides how many layers stay."""


def run(options: Options) -> int:
    """Write the file; print how alike it is."""
    from ducseg.export.pictures import calibration_pictures
    from ducseg.export.quantize import Int8
    from ducseg.export.writing import check_name, export_onnx, report_path
    from ducseg.inference.taken import pixels_taken
    from ducseg.weights.checkpoint import load_segmenter

    if not options.int8 and options.int8_bound != Options.int8_bound:
        raise explain("--int8-bound", found="no --int8", needed="one", fix="Add --int8 PICTURES, or leave it out.")
    check_name(options.out)
    segmenter, int8 = load_segmenter(options.checkpoint), None
    pixels = pixels_taken(segmenter.preprocessing)
    if options.int8:
        int8 = Int8(pictures=calibration_pictures(options.int8, pixels), bound=options.int8_bound)
    samples = _compared_on(options, segmenter.preprocessing)
    found = export_onnx(segmenter, options.out, samples, output=options.output, int8=int8, about=samples.about)
    print(f"takes pictures of {pixels}, as stored")
    print(f"compared on {samples.about}, and on parts of the first, down to one pixel")
    for line in found.lines():
        print(line)
    print(f"written: {options.out}, report: {report_path(options.out)}")
    return 0


def _compared_on(options: Options, preprocessing: "Preprocessing") -> "ComparedOn":
    from ducseg.export.pictures import drawn_scenes, given_pictures, labelled_split
    from ducseg.inference.taken import pixels_taken

    if options.check and (options.data_root or options.split):
        raise explain("--check", found="--data-root or --split too", needed="one of them", fix="Leave one out.")
    if options.data_root or options.split:
        return labelled_split(*options.opened(options.checkpoint))
    if options.check or options.int8:
        return given_pictures(options.check or options.int8, pixels_taken(preprocessing))
    return drawn_scenes(preprocessing)
