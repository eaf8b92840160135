"""Fields of view: masks of which part of each picture shows anything; what lies outside is 255.

Legend: H, W pixels of a picture.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ducseg.classes import IGNORE
from ducseg.data.layouts.finding import find_files
from ducseg.data.layouts.layout import FoundFiles
from ducseg.data.layouts.mask_files import read_mask
from ducseg.errors import explain

__all__ = ["Viewed", "views_of"]


@dataclass(frozen=True)
class Viewed:
    """What reads a mask file, with the pixels outside its field of view as 255; `views`: mask -> its view."""

    read: Callable[[Path], NDArray[np.uint8]]
    views: Mapping[Path, Path]

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Train ids (H, W); raises `UserError` as `read`, and for a view of another size or that shows nothing."""
        label, view = self.read(path), self.views[path]
        pixels = read_mask(view).pixels
        most = int(pixels.max(initial=0))
        if pixels.shape != label.shape or not most:
            raise explain(
                f"view {view}",
                found=f"{pixels.shape[0]} x {pixels.shape[1]} pixels (H x W), the largest of them {most}",
                needed=f"{label.shape[0]} x {label.shape[1]}, above 0 inside",
                fix="Give the folder of this data set's views: --data.view DIR.",
            )
        return np.where(pixels > most / 2, label, np.uint8(IGNORE))


def views_of(found: FoundFiles, root: Path, *, images: str | None, view: str) -> dict[Path, Path]:
    """Mask -> view of its picture, from the folder `view` under the root, or in each split's folder.

    Raises:
        UserError: masks whose picture has no view.
    """
    views = find_files(root, images=images, masks=view, mask_suffix=None).splits.values()
    of_picture = {files.images[name]: path for files in views for name, path in (files.labels or {}).items()
                  if name in files.images}  # fmt: skip
    pairs = {
        label: of_picture.get(files.images[name])
        for files in found.splits.values()
        for name, label in (files.labels or {}).items()
        if name in files.images
    }
    if lost := [label.name for label, path in pairs.items() if path is None]:
        raise explain(
            f"--data.view {view}",
            found=f"no field of view for {len(lost)} pictures (such as that of {lost[0]})",
            needed=f"a folder {view}/ beside that of the pictures, with one for each",
            fix="Give its name as it stands in the data set's folder, or leave the option out.",
        )
    return {label: path for label, path in pairs.items() if path is not None}
