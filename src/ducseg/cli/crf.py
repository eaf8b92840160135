"""`ducseg crf`: the dense CRF on probabilities that some network left behind."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ducseg.cli.options import File, Folder, Kinds, class_list, report
from ducseg.errors import UserError, explain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Refine saved probabilities with the dense CRF. Exits with 1 if a picture failed.

    (`ducseg predict CHECKPOINT ... --crf` predicts and refines.)
    """

    probabilities: tyro.conf.Positional[Folder]
    """A folder of NAME.npy or NAME_probabilities.npy, any floating type (classes, height, width), as `predict --kinds
    probabilities` writes them."""
    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders (searched recursively) and globs: the pictures."""
    out: Folder
    """Folder for the results; sub-folders of the inputs are kept."""
    settings: tuple[File, ...] = ()
    """A JSON file of crf-tune; default: the paper's."""
    kinds: Kinds = ("labels",)
    """What to write."""
    classes: str | None = None
    """For colours: camvid, cityscapes, kitti-road, voc2012, a classes.json or a run folder."""


def run(options: Options) -> int:
    """Exit status 1 where a picture failed."""
    from ducseg.classes import CITYSCAPES, CLASS_SETS
    from ducseg.crf import dense_crf
    from ducseg.files import files_below
    from ducseg.inference.predict_files import write_each
    from ducseg.inference.refine import crf_settings, saved_probabilities
    from ducseg.weights.checkpoint import checkpoint_folder

    given = options.probabilities
    network = None
    with contextlib.suppress(UserError):
        network = checkpoint_folder(given)
    if network or not any(file.suffix == ".npy" for file in files_below(given)):
        raise explain(
            f"probabilities {given}",
            found=f"a network ({network})" if network else "no .npy file there",
            needed="a folder with an array (classes, height, width) for each picture",
            fix="`ducseg predict CHECKPOINT ... --kinds probabilities` writes them; `--crf` there refines at once.",
        )
    if options.out.resolve() == given.resolve():
        raise explain(
            f"--out {options.out}",
            found="the folder that the probabilities are read from",
            needed="another one",
            fix="The results would replace them.",
        )
    params, iterations = crf_settings(options.settings)
    coloured = [kind for kind in options.kinds if kind in ("color", "overlay", "polygons")]
    if coloured and options.classes is None:
        raise explain(
            "--kinds",
            found=", ".join(coloured),
            needed="classes to colour and name",
            fix=f"Add --classes ({', '.join(CLASS_SETS)} or a classes.json), or write --kinds labels.",
        )
    colours = options.classes and (CLASS_SETS.get(options.classes) or class_list(Path(options.classes)))

    def refined(names: Sequence[Path], images: "Sequence[NDArray[np.uint8]]") -> "list[NDArray[np.float32]]":
        (name,), (image,) = names, images
        found = saved_probabilities(given, name)
        if colours and found.ndim == 3 and len(found) != len(colours):
            raise explain(
                f"probabilities of {name}",
                found=f"{len(found)} classes",
                needed=f"{len(colours)}",
                fix="See --classes.",
            )
        return [dense_crf(found, image, params, iterations)]

    written = write_each(refined, colours or CITYSCAPES, options.inputs, options.out, kinds=options.kinds)
    return report(written, options.out, "refined")
