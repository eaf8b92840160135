"""Results for the servers of Cityscapes and PASCAL VOC2012: the files they take, which `ducseg score` scores alike.

Label maps are those of the labeller at the size of the picture, so scoring what was written gives the number that
`ducseg eval` gives. (KITTI road: `ducseg.inference.kitti_submission`.)
"""

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.classes import CITYSCAPES, IGNORE, VOC2012, ClassSet
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.layouts.cityscapes import LABEL_ID_TO_TRAIN_ID
from ducseg.data.paired import SegmentationDataset
from ducseg.errors import explain
from ducseg.figures.label_maps import write_png, write_whole
from ducseg.inference.predictor import Labeller
from ducseg.inference.read_ahead import read_ahead
from ducseg.progress import counted

__all__ = ["VOC_FOLDER", "write_cityscapes_submission", "write_voc_submission"]

VOC_FOLDER = Path("results", "VOC2012", "Segmentation", "comp6_test_cls")
"""Where VOC's server looks in the archive; comp6 is the competition that allows other data (ImageNet, COCO, SBD)."""

_CITYSCAPES_SIZE = (1024, 2048)
_FRAME = re.compile(r"[^_]+_\d+_\d+")
_MOST_NAMED = 5


def write_cityscapes_submission(
    labeller: Labeller,
    dataset: SegmentationDataset,
    out: Path,
    *,
    archive: Path | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write CITY_SEQUENCE_FRAME_labelIds.png into `out`: 8-bit grey, label ids (not train ids), one for each frame.

    Args:
        labeller: a `Predictor`, or anything around one, with Cityscapes' 19 classes.
        dataset: the test split for the server, a labelled one for `score_cityscapes`; ids are CITY_SEQUENCE_FRAME.
        out: folder for the results; those of an earlier run are replaced.
        archive: also this .zip of the results, as the server takes it; replaced. Frames must then be 1024x2048.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the frames.

    Raises:
        UserError: another model or data set, frames of another size, an archive that is no .zip, `out` holding other
            pictures, pictures that do not read, a disk that refuses the results.
    """
    _check_classes(labeller, CITYSCAPES, "Cityscapes")
    _check_archive(archive, (".zip",))
    strange = [name for name in dataset.ids if _FRAME.fullmatch(name) is None]
    if strange:
        raise explain(
            "frames",
            found=f"{len(strange)} with other names ({', '.join(strange[:_MOST_NAMED])})",
            needed="CITY_SEQUENCE_FRAME, as aachen_000000_000019",
            fix="Predict a split of Cityscapes.",
        )
    label_id = np.zeros(256, np.uint8)
    for value, train_id in LABEL_ID_TO_TRAIN_ID.items():
        label_id[train_id] = value
    size = None if archive is None else _CITYSCAPES_SIZE
    files = [out / f"{name}_labelIds.png" for name in dataset.ids]

    def write(path: Path, labels: NDArray[np.uint8]) -> None:
        write_png(path, np.asarray(cv2.LUT(labels, label_id), np.uint8))

    _write_each(labeller, dataset, out, files, write, size=size, progress=progress)
    if archive is not None:
        write_whole(archive, _zip(files))
    return files


def write_voc_submission(
    labeller: Labeller,
    dataset: SegmentationDataset,
    out: Path,
    *,
    archive: Path | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write results/VOC2012/Segmentation/comp6_test_cls/ID.png into `out`: class indices 0..20 with VOC's palette.

    Args:
        labeller: a `Predictor`, or anything around one, with VOC's 21 classes.
        dataset: `open_voc2012(root, "test")` for the server, a labelled split for `score_voc2012`.
        out: folder for the results; those of an earlier run are replaced.
        archive: also this .tar.gz or .tgz of the results with their folders, as the server takes it; replaced.
        progress: draw a bar on a terminal.

    Returns:
        The files, in the order of the pictures.

    Raises:
        UserError: another model, an archive of another kind, `out` holding other pictures, pictures that do not read,
            a disk that refuses the results.
    """
    _check_classes(labeller, VOC2012, "VOC2012")
    _check_archive(archive, (".tar.gz", ".tgz"))
    files = [out / VOC_FOLDER / f"{name}.png" for name in dataset.ids]
    _write_each(labeller, dataset, out, files, write_indexed_png, size=None, progress=progress)
    if archive is not None:
        write_whole(archive, _tar_gz(files))
    return files


def _check_classes(labeller: Labeller, classes: ClassSet, name: str) -> None:
    found = labeller.model.classes.names
    if found != classes.names:
        raise explain(
            "the model's classes",
            found=f"{len(found)} ({', '.join(found[:_MOST_NAMED])}, ...)",
            needed=f"the {len(classes)} of {name} ({', '.join(classes.names[:_MOST_NAMED])}, ...)",
            fix=f"Take a model trained on {name}.",
        )


def _check_archive(archive: Path | None, suffixes: tuple[str, ...]) -> None:
    if archive is not None and not archive.name.endswith(suffixes):
        raise explain(
            f"archive {archive}", found=f"the name {archive.name}", needed=" or ".join(suffixes), fix="Rename it."
        )


def _write_each(
    labeller: Labeller,
    dataset: SegmentationDataset,
    out: Path,
    files: Sequence[Path],
    write: Callable[[Path, NDArray[np.uint8]], None],
    *,
    size: tuple[int, int] | None,
    progress: bool,
) -> None:
    """Label every picture, the next ones read meanwhile, and write its label map; `size` is needed if given."""
    if not files:
        raise explain("data set", found="no picture", needed="at least one", fix="Check the folder and the split.")
    _check_out(out, files)
    with counted("predicted") if progress else nullcontext() as show:
        for index, read in read_ahead(dataset.__getitem__, range(len(dataset))):
            sample = read()
            if size is not None and sample.original_size != size:
                raise explain(
                    f"frame {sample.id}",
                    found=f"{sample.original_size[0]} x {sample.original_size[1]} pixels (H x W)",
                    needed=f"{size[0]} x {size[1]}: the server takes no other size",
                    fix="Without an archive any size is written.",
                )
            labels = labeller(sample.image)
            assert labels.max(initial=0) < IGNORE, "a predictor always knows a class"
            write(files[index], labels)
            if show is not None:
                show(index + 1, len(files))


def _check_out(out: Path, files: Sequence[Path]) -> None:
    """Refuse a folder with other pictures: they would be handed in, or scored as surplus."""
    wanted = set(files)
    there = sorted(out.rglob("*")) if out.is_dir() else []
    strange = [file for file in there if file.suffix.lower() in PICTURE_SUFFIXES and file not in wanted]
    if strange:
        named = ", ".join(str(file.relative_to(out)) for file in strange[:_MOST_NAMED])
        more = f" and {len(strange) - _MOST_NAMED} more" if len(strange) > _MOST_NAMED else ""
        raise explain(
            f"folder {out}",
            found=f"{len(strange)} pictures that are no results of these ({named}{more})",
            needed="a new folder, or one with an earlier run's results",
            fix="Choose another --out.",
        )


def _zip(files: Sequence[Path]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:  # stored: PNGs are compressed
        for file in files:
            content.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return packed.getvalue()


def _tar_gz(files: Sequence[Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as content:
        for file in files:
            data = file.read_bytes()
            entry = tarfile.TarInfo((VOC_FOLDER / file.name).as_posix())
            entry.size = len(data)
            content.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
