"""`ducseg predict`: label pictures, or write what a benchmark's server takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ducseg.cli.options import Batch, File, Folder, Kinds, RefinedNetwork, report
from ducseg.errors import explain

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Batch, RefinedNetwork):
    """Predict pictures: label PNGs, colour maps, overlays with a legend. Exits with 1 if a file could not be read.

    With --format, write what a benchmark's server takes, from a data set's folder.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders (searched recursively) and globs, pictures of any size; with --format, the data set's folder."""
    out: Folder
    """Folder for the results; sub-folders of the inputs are kept."""
    kinds: Kinds = ()
    """What to write (default: labels color overlay); probabilities are .npy files, float16 (classes, height, width)."""
    format: Literal["cityscapes", "kitti-road", "voc2012"] | None = None
    """Whose names, values and sizes to write."""
    split: str | None = None
    """With --format: default test."""
    fold: int | None = None
    """With --format kitti-road and --split val: which fold; default: the one that the run held out."""
    archive: Annotated[Path | None, tyro.conf.arg(name="zip", metavar="FILE")] = None
    """With --format: also pack the results there (.zip, VOC .tar.gz)."""
    figure: File | None = None
    """With --format kitti-road: also draw up to six frames with the road in red there (PNG)."""


def run(options: Options) -> int:
    """Exit status 1 where a picture could not be read."""
    if options.format is not None:
        return _for_server(options)
    given = {"split": options.split, "fold": options.fold, "zip": options.archive, "figure": options.figure}
    meant = [f"--{name}" for name, value in given.items() if value is not None]
    if meant:
        raise explain(" and ".join(meant), found="no --format", needed="one", fix="Add --format, or leave them out.")
    from ducseg.inference.predict_files import predict_files

    kinds = options.kinds or ("labels", "color", "overlay")
    labeller = options.labeller(probabilities="probabilities" in kinds)
    done = predict_files(labeller, options.inputs, options.out, kinds=kinds, batch_size=options.batch_size)
    return report(done, options.out, "predicted")


def _for_server(options: Options) -> int:
    foreign = [*(["--kinds"] if options.kinds else []), *(["--batch-size"] if options.batch_size != 1 else [])]
    if options.format != "kitti-road":
        foreign += [f"--{name}" for name in ("fold", "figure") if getattr(options, name) is not None]
    if len(options.inputs) != 1 or foreign:
        raise explain(
            f"--format {options.format}",
            found=" and ".join(foreign) or f"{len(options.inputs)} inputs",
            needed="the data set's folder, without --kinds and --batch-size; --fold and --figure for kitti-road alone",
            fix="For example: ducseg predict RUN DATASET --out DIR --format cityscapes --split val.",
        )
    from ducseg.inference.submit import submit

    files = submit(
        options.format or "", options.labeller(), Path(options.inputs[0]), options.out, split=options.split or "test",
        fold=options.fold, archive=options.archive, figure=options.figure,
    )  # fmt: skip
    packed = f", packed as {options.archive}" if options.archive is not None else ""
    print(f"{len(files)} results in {options.out}{packed}")
    return 0
