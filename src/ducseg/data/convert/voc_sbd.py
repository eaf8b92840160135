"""The augmented VOC2012: SBD's annotations (Hariharan et al., ICCV 2011) as VOC masks, and the two lists.

The rule: train_aug is everything that SBD or VOC's train annotates, less VOC's val: 8,498 + 2,857 of SBD and 1,464 of
VOC give 10,582; trainval_aug adds VOC's val again: 12,031. SBD's masks have no 255 border. Where VOC has a mask it
is used, and SBD's is not written.
"""

import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import VOC2012
from ducseg.data.convert.matlab import read_field
from ducseg.data.files.indexed_png import write_indexed_png
from ducseg.data.files.reading import check_label
from ducseg.data.layouts.voc2012 import AUGMENTED_MASKS, MASKS, find_voc2012, image_set_file, read_image_set
from ducseg.data.paired import no_such_data
from ducseg.data.processes import mapped
from ducseg.errors import MALFORMED, explain, listed
from ducseg.files import visible, whole_folder, write_whole

__all__ = ["AugmentedSets", "augmented_sets", "read_sbd_mask", "write_augmented_sets"]

_LAYOUT = "cls/ID.mat, train.txt and val.txt (benchmark_RELEASE/dataset of benchmark.tgz)"


@dataclass(frozen=True, kw_only=True)
class AugmentedSets:
    """Ids in ascending order."""

    train_aug: tuple[str, ...]
    trainval_aug: tuple[str, ...]


def augmented_sets(*, sbd: Iterable[str], voc_train: Iterable[str], voc_val: Iterable[str]) -> AugmentedSets:
    """The augmented image sets by the rule above, from the ids of SBD (its train and val) and of VOC's two sets."""
    everything = {*sbd, *voc_train, *voc_val}
    return AugmentedSets(train_aug=tuple(sorted(everything - set(voc_val))), trainval_aug=tuple(sorted(everything)))


def read_sbd_mask(path: Path) -> NDArray[np.uint8]:
    """The class map GTcls.Segmentation of an SBD .mat file, uint8 (H, W) with 0..20.

    Raises:
        UserError: a file that does not read or holds something else.
    """
    try:
        mask = read_field(path, "GTcls", "Segmentation")
    except (OSError, struct.error, zlib.error, StopIteration, *MALFORMED) as e:
        raise _no_sbd_mask(path, f"damaged, truncated or another file ({type(e).__name__}: {e})") from None
    if mask.ndim != 2:
        raise _no_sbd_mask(path, f"GTcls.Segmentation of shape {mask.shape}")
    check_label(mask, len(VOC2012), path.stem, path=path)
    return mask


def _no_sbd_mask(path: Path, found: str) -> Exception:
    return explain(
        f"SBD mask {path}",
        found=found,
        needed="GTcls.Segmentation, one byte a pixel, as in SBD's cls/ID.mat",
        fix="Unpack benchmark.tgz again; masks of inst/ are of another task.",
    )


def write_augmented_sets(
    voc_root: Path,
    sbd_root: Path,
    *,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> AugmentedSets:
    """Write SBD's masks as palette PNGs into SegmentationClassAug, and train_aug.txt and trainval_aug.txt, once.

    Args:
        voc_root: VOC2012, or a folder above it, which gets the files.
        sbd_root: SBD's folder dataset, or one above it.
        num_workers: processes.
        progress: called with (done, total).

    SegmentationClassAug appears when it is complete; an interrupted run begins again.

    Raises:
        UserError: no such folders or lists, masks that are missing (all in one message) or do not read, a
            SegmentationClassAug or other lists that are there already.
    """
    voc, sbd = find_voc2012(voc_root), _find_sbd(sbd_root)
    sets = augmented_sets(
        sbd=[*read_image_set(sbd / "train.txt"), *read_image_set(sbd / "val.txt")],
        voc_train=read_image_set(image_set_file(voc, "train")),
        voc_val=read_image_set(image_set_file(voc, "val")),
    )
    lists = {image_set_file(voc, name): getattr(sets, name) for name in ("train_aug", "trainval_aug")}
    _check_new(voc, lists)
    ids = [name for name in sets.trainval_aug if not (voc / MASKS / f"{name}.png").is_file()]
    _check_masks_there(sbd, ids)
    with whole_folder(voc / AUGMENTED_MASKS) as folder:
        list(mapped(partial(_convert, sbd / "cls", folder), ids, num_workers, progress))
        for file, names in lists.items():
            write_whole(file, ("\n".join(names) + "\n").encode())
    return sets


def _find_sbd(root: Path) -> Path:
    for folder in (root, root / "dataset", root / "benchmark_RELEASE" / "dataset"):
        if (folder / "cls").is_dir():
            return folder
    raise no_such_data("SBD", root, missing="no folder cls", layout=_LAYOUT)


def _check_new(voc: Path, lists: dict[Path, tuple[str, ...]]) -> None:
    there = [voc / AUGMENTED_MASKS] if (voc / AUGMENTED_MASKS).exists() else []
    there += [file for file, ids in lists.items() if file.is_file() and set(read_image_set(file)) != set(ids)]
    if there:
        raise explain(
            f"augmented set in {voc}",
            found=f"{', '.join(map(str, there))} already, made otherwise",
            needed="none yet (lists of the same ids may be there)",
            fix="Use what is there, or move it away first.",
        )


def _check_masks_there(sbd: Path, ids: list[str]) -> None:
    there = {file.stem for file in visible(sbd / "cls", "*.mat")}
    missing = [name for name in ids if name not in there]
    if missing:
        raise explain(
            f"SBD in {sbd}",
            found=f"{len(missing)} ids without a mask, in VOC's {MASKS} or in cls: {listed(missing, 20)}",
            needed=_LAYOUT,
            fix="Unpack benchmark.tgz whole.",
        )


def _convert(source: Path, target: Path, name: str) -> None:
    write_indexed_png(target / f"{name}.png", read_sbd_mask(source / f"{name}.mat"))
