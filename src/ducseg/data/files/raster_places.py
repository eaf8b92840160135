"""Where rasters lie on earth, and how far apart two of them are."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place", "pixels_away"]


@dataclass(frozen=True)
class Place:
    """Where a raster lies.

    Attributes:
        crs: rasterio's coordinate reference system; None: none is known.
        transform: from (column, row) to its coordinates, rasterio's `Affine`.
        points: ground control points and their system, where there are any instead.
    """

    crs: Any
    transform: Any
    points: tuple[Any, Any]

    @classmethod
    def of(cls, source: Any) -> Self:
        """Of an open data set of rasterio's."""
        return cls(source.crs, source.transform, source.gcps)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The transform (3, 3)."""
        return np.reshape(tuple(self.transform), (3, 3))

    @property
    def is_known(self) -> bool:
        """Whether pixels have coordinates."""
        return self.crs is not None or not self.transform.is_identity

    @property
    def name(self) -> str | None:
        """Of the system, as "EPSG:32633", else its well-known text."""
        if self.crs is None:
            return None
        code = self.crs.to_epsg()
        return f"EPSG:{code}" if code else str(self.crs.to_wkt())


def pixels_away(a: Place, b: Place, size: tuple[int, int]) -> float:
    """The most that a corner of two rasters of a size (H, W) differs by; 0 where that is not known."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    if a.transform.is_identity or b.transform.is_identity or a.points[0] or b.points[0]:
        return 0.0
    height, width = size
    corners = np.array([(0, 0, width, width), (0, height, 0, height), (1, 1, 1, 1)], np.float64)
    x, y, _ = b.matrix @ corners
    if None not in (a.crs, b.crs) and a.crs != b.crs:
        try:
            x, y = (np.array(values) for values in transform(b.crs, a.crs, x, y))
        except (RasterioError, CPLE_BaseError):
            return 0.0
    columns, rows, _ = np.linalg.inv(a.matrix) @ (x, y, corners[2]) - corners
    away = float(np.hypot(columns, rows).max())
    return away if np.isfinite(away) else 0.0
