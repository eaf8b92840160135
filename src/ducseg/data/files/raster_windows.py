"""Windows of TIFFs written as TIFFs of their own: the same bands, types, colours, no-data and place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from ducseg.data.files.overlapping import quiet
from ducseg.data.files.raster_writing import check_written
from ducseg.data.files.rasters import INSTALL, explained, opened_raster
from ducseg.errors import package

__all__ = ["Window", "Windows", "open_windows"]


class Window(NamedTuple):
    """Pixels from `top`, `left` up to and without `bottom`, `right`."""

    top: int
    left: int
    bottom: int
    right: int


class Windows:
    """An open TIFF; `open_windows` makes one. `size`: its (H, W)."""

    def __init__(self, path: Path, source: Any) -> None:
        self.path, self._source = path, source
        self.size: tuple[int, int] = (source.height, source.width)
        masks = {flag.name for flags in source.mask_flag_enums for flag in flags}
        self._has_mask = "per_dataset" in masks and "alpha" not in masks

    def has_data(self, window: Window) -> bool:
        """Whether one pixel at least has data there; raises `UserError` where the file is damaged."""
        with explained(self.path), quiet:
            return bool(self._source.dataset_mask(window=_slices(window)).any())

    def write(self, window: Window, path: Path) -> None:
        """Write PATH.tif.

        Raises:
            UserError: the file is damaged there.
            OSError: the disk refuses it.
        """
        import rasterio

        source, slices, path = self._source, _slices(window), path.with_name(f"{path.name}.tif")
        with explained(self.path), quiet:
            bands, mask = source.read(window=slices), source.dataset_mask(window=slices) if self._has_mask else None
        how = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2], "count": source.count}
        how |= {"dtype": source.dtypes[0], "nodata": source.nodata, "crs": source.crs, "compress": "deflate"}
        points, of_points = source.gcps
        if points and source.crs is None:
            how |= {"gcps": [_moved(point, window) for point in points], "crs": of_points}
        elif not (at := source.transform).is_identity:
            x, y = (at.c + at.a * window.left + at.b * window.top, at.f + at.d * window.left + at.e * window.top)
            how["transform"] = rasterio.Affine(at.a, at.b, x, at.d, at.e, y)
        kinds = source.colorinterp
        if [kind.name for kind in kinds[:3]] == ["red", "green", "blue"]:
            how["photometric"] = "RGB"
        path.parent.mkdir(parents=True, exist_ok=True)
        with quiet, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            try:
                with rasterio.open(path, "w", **how) as target:
                    if kinds[0].name == "palette":
                        target.write_colormap(1, source.colormap(1))
                    target.write(bands)
                    if mask is not None:
                        target.write_mask(mask)
                    if kinds[0].name != "palette":
                        target.colorinterp = kinds
                check_written(rasterio, path, (bands.shape[1], bands.shape[2]))
            except rasterio.errors.RasterioError as error:
                raise OSError(None, f"the disk does not take it ({error})") from error


def _moved(point: Any, window: Window) -> Any:
    """A ground control point of the whole as one of the window."""
    from rasterio.control import GroundControlPoint

    row, column = point.row - window.top, point.col - window.left
    return GroundControlPoint(row, column, point.x, point.y, point.z, point.id, point.info)


def _slices(window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    return (window.top, window.bottom), (window.left, window.right)


@contextmanager
def open_windows(path: Path) -> Iterator[Windows]:
    """Open a TIFF.

    Raises:
        UserError: a damaged one, rasterio not installed.
    """
    package("rasterio", what=f"raster {path}", install=INSTALL)
    with opened_raster(path) as source:
        yield Windows(path, source)
