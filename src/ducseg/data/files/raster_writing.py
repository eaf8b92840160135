"""TIFFs written by rows, so that they need not fit in memory; rasterio does it (`pip install 'ducseg[geo]'`)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.overlapping import quiet
from ducseg.data.files.raster_places import Place
from ducseg.data.files.rasters import INSTALL, bounded
from ducseg.errors import package
from ducseg.files import whole_file

__all__ = ["check_written", "write_raster"]

_ROWS = 512  # written together
_BLOCK = 512


def write_raster(
    path: Path,
    size: tuple[int, int],
    place: Place,
    rows: Callable[[int, int], NDArray[np.uint8]],
    *,
    bands: int = 1,
    nodata: int | None = None,
    palette: Mapping[int, tuple[int, int, int]] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write a TIFF in tiles, LZW, as BigTIFF where it may pass 4 GB; whole or not at all.

    Args:
        rows: asked for uint8 (end - begin, W), or (end - begin, W, bands), from the top to the bottom.
        palette: colours of the values of one band.

    Raises:
        UserError: a folder or disk that refuses it.
    """
    rasterio = package("rasterio", what=f"TIFF {path}", install=INSTALL)
    (height, width), (points, points_crs) = size, place.points
    how = {"driver": "GTiff", "height": height, "width": width, "count": bands, "dtype": "uint8", "nodata": nodata}
    how |= {"crs": place.crs, "transform": place.transform, "compress": "LZW", "BIGTIFF": "IF_SAFER"}
    how |= {"tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK}
    if bands == 3:
        how |= {"photometric": "RGB", "interleave": "pixel"}
    with whole_file(path) as temporary, bounded(), quiet:
        try:
            with rasterio.open(temporary, "w", **how) as target:
                if points and place.crs is None:
                    target.gcps = points, points_crs
                if palette is not None:
                    target.write_colormap(1, dict(palette))
                target.update_tags(**(tags or {}))
                for begin in range(0, height, _ROWS):
                    end = min(begin + _ROWS, height)
                    part = rows(begin, end)
                    window = ((begin, end), (0, width))
                    if bands == 1:
                        target.write(part, 1, window=window)
                    else:
                        target.write(np.moveaxis(part, 2, 0), window=window)
            check_written(rasterio, temporary, size)
        except rasterio.errors.RasterioError as error:
            raise OSError(None, f"the disk does not take it ({error})") from error


def check_written(rasterio: Any, path: Path, size: tuple[int, int]) -> None:
    """GDAL writes the last blocks when it closes a file, and says nothing where the disk is full."""
    with rasterio.open(path) as written:
        for begin in range(0, size[0], _BLOCK):
            written.read(1, window=((begin, min(begin + _BLOCK, size[0])), (0, size[1])))
