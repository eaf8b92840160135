"""What the files for every benchmark's server share: checks beforehand, one loop, archives."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE, ClassSet
from ducseg.data.files.png import PngKind, png_kind
from ducseg.data.files.reading import PICTURE_SUFFIXES
from ducseg.data.paired import SegmentationDataset
from ducseg.data.sample import Sample
from ducseg.errors import explain, listed
from ducseg.files import files_below
from ducseg.inference.labeller import Labeller
from ducseg.inference.read_ahead import read_ahead
from ducseg.progress import counted

__all__ = ["check_archive", "check_classes", "known_labels", "tar_gz_archive", "write_results", "zip_archive"]

_MOST_NAMED = 5


def check_classes(labeller: Labeller, classes: ClassSet, name: str) -> None:
    """Raise `UserError` where the network does not know the benchmark's classes."""
    found = labeller.classes.names
    if found != classes.names:
        raise explain(
            "the model's classes",
            found=f"{len(found)} ({', '.join(found[:_MOST_NAMED])}, ...)",
            needed=f"the {len(classes)} of {name} ({', '.join(classes.names[:_MOST_NAMED])}, ...)",
            fix=f"Take a model trained on {name}.",
        )


def check_archive(archive: Path | None, suffixes: tuple[str, ...]) -> None:
    """Raise `UserError` for an archive of another kind than the server takes."""
    if archive is not None and not archive.name.endswith(suffixes):
        raise explain(
            f"archive {archive}", found=f"the name {archive.name}", needed=" or ".join(suffixes), fix="Rename it."
        )


def known_labels(labeller: Labeller, sample: Sample) -> NDArray[np.uint8]:
    """Labels (H, W) of a sample's picture, every pixel of some class."""
    labels = labeller(sample.image)
    assert labels.max(initial=0) < IGNORE, "a predictor always knows a class"
    return labels


def write_results(
    dataset: SegmentationDataset,
    out: Path,
    files: Sequence[Path],
    write: Callable[[int, Sample], None],
    *,
    size: tuple[int, int] | None = None,
    kind: PngKind | None = None,
    progress: bool,
) -> None:
    """Write the result of every sample, the next ones read meanwhile.

    Args:
        files: the results; nothing else may lie in `out`.
        write: of an index and its sample.
        size: (H, W) needed of the pictures.
        kind: of results that an earlier run left.

    Raises:
        UserError: no sample, another size, other pictures in `out`.
    """
    if not files:
        raise explain("data set", found="no picture", needed="at least one", fix="Check the folder and the split.")
    _check_out(out, files, kind)
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
            write(index, sample)
            if show is not None:
                show(index + 1, len(files))


def _check_out(out: Path, files: Sequence[Path], kind: PngKind | None) -> None:
    """Refuse a folder with other pictures: they would be handed in, or scored as surplus.

    So would a file with the name of a result but not of its `kind`: KITTI's ground truth has the same names.
    """
    wanted = set(files)
    there = files_below(out) if out.is_dir() else []
    pictures = (file for file in there if file.suffix.lower() in PICTURE_SUFFIXES)
    strange = [file for file in pictures if file not in wanted or (kind is not None and png_kind(file) != kind)]
    if strange:
        named = listed([file.relative_to(out) for file in strange])
        raise explain(
            f"folder {out}",
            found=f"{len(strange)} pictures that are no results of these ({named})",
            needed="a new folder, or one with an earlier run's results",
            fix="Choose another --out.",
        )


def zip_archive(files: Sequence[Path]) -> bytes:
    """A .zip of files without folders and dates: equal files give equal archives."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:  # stored: PNGs are compressed
        for file in files:
            content.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
    return packed.getvalue()


def tar_gz_archive(files: Sequence[Path], folder: Path) -> bytes:
    """A .tar.gz of files in `folder`, without dates."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as content:
        for file in files:
            data = file.read_bytes()
            entry = tarfile.TarInfo((folder / file.name).as_posix())
            entry.size = len(data)
            content.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
