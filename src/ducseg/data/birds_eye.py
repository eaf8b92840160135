"""KITTI road's bird's-eye view: from the picture, exactly as the development kit does it, and back for drawing.

The view covers x in (-10, 10) m beside and z in (6, 46) m ahead at 0.05 m a cell: 800 rows x 400 columns, row 0 is
farthest away. A cell takes the pixel that its centre falls into: nothing is interpolated, so confidences, colours and
ground truth are treated alike. Cells that fall outside the picture are 0, which in ground truth means ignored.
Legend: H, W pixels of the picture.
"""

from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from ducseg.data.kitti_calibration import KittiCalibration
from ducseg.errors import explain

Value = TypeVar("Value", bound=np.generic)

__all__ = ["BEV_SIZE", "BirdsEye"]

BEV_SIZE = (800, 400)
"""Rows and columns of the view."""

_CELL = 0.05
_LEFT, _FAR = -10.0, 46.0


_Lookup = tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]


class BirdsEye:
    """The bird's-eye view of one frame.

    Args:
        road_to_image: float64 (3, 3), (x, z, 1) on the road to homogeneous pixels that count from 1.
    """

    def __init__(self, road_to_image: NDArray[np.float64]) -> None:
        self.road_to_image = road_to_image
        self._lookups: dict[tuple[int, int], _Lookup] = {}  # by picture size: truth and prediction share one

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Of a calibration file; raises `UserError` as `KittiCalibration.read`."""
        return cls(KittiCalibration.read(Path(path)).road_to_image())

    def from_image(self, picture: NDArray[Value]) -> NDArray[Value]:
        """A picture (H, W) or (H, W, 3) of any type as bird's-eye view (800, 400) or (800, 400, 3) of the same."""
        picture = np.asarray(picture)
        inside, rows, columns = self._pixels(picture.shape[0], picture.shape[1])
        view = np.zeros((*BEV_SIZE, *picture.shape[2:]), picture.dtype)
        view[inside] = picture[rows, columns]
        return view

    def to_image(self, view: NDArray[Value], size: tuple[int, int]) -> NDArray[Value]:
        """A bird's-eye view (800, 400) or (800, 400, 3) as a picture of `size` (H, W) or (H, W, 3).

        A pixel takes the cell that its centre falls into, of any type; what the view does not cover is 0.

        Raises:
            UserError: a view of another size.
        """
        view = np.asarray(view)
        if view.shape[:2] != BEV_SIZE:
            fix = "Pass what from_image gives."
            raise explain("bird's-eye view", found=f"shape {view.shape}", needed=f"{BEV_SIZE} first", fix=fix)
        height, width = size
        # pixel j holds 1-based coordinates j + 1 up to j + 2 (`from_image` truncates), so its centre is j + 1.5
        u, v = np.meshgrid(np.arange(width) + 1.5, np.arange(height) + 1.5)
        x, z, w = np.linalg.inv(self.road_to_image) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
        with np.errstate(divide="ignore", invalid="ignore"):  # the horizon, where w = 0, is inside nothing
            column, row = ((x / w - _LEFT) / _CELL).reshape(size), ((_FAR - z / w) / _CELL).reshape(size)
        inside = (row >= 0) & (row < BEV_SIZE[0]) & (column >= 0) & (column < BEV_SIZE[1])
        picture = np.zeros((*size, *view.shape[2:]), view.dtype)
        picture[inside] = view[row[inside].astype(np.intp), column[inside].astype(np.intp)]
        return picture

    def _pixels(self, height: int, width: int) -> _Lookup:
        """Which cells (800, 400) lie inside the picture, and the rows and columns of their pixels."""
        if (height, width) not in self._lookups:
            rows, columns = BEV_SIZE
            x = (_LEFT + _CELL / 2 + _CELL * np.arange(columns)).astype(np.float32)
            z = (_FAR - _CELL / 2 - _CELL * np.arange(rows)).astype(np.float32)
            across, ahead = np.meshgrid(x, z)
            ground = np.stack([across.ravel(), ahead.ravel(), np.ones(across.size)])
            u, v, w = self.road_to_image @ ground
            with np.errstate(divide="ignore", invalid="ignore"):
                u, v = (u / w).reshape(BEV_SIZE), (v / w).reshape(BEV_SIZE)
            inside = (u >= 1) & (u <= width) & (v >= 1) & (v <= height)
            self._lookups[height, width] = inside, v[inside].astype(np.intp) - 1, u[inside].astype(np.intp) - 1
        return self._lookups[height, width]
