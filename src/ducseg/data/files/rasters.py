"""TIFFs, and pictures with a world file, read by rows, so that they need not fit in memory, with their place on earth.

Legend: H, W pixels as stored; what a raster knows nothing of is its nodata value, its mask, or an alpha of 0.
rasterio does it (`pip install 'ducseg[geo]'`).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.channels import (
    RGB,
    Pixels,
    as_taken,
    decode_pixels,
    fill_undefined,
    read_pixels,
    taken_as,
)
from ducseg.data.files.header import (
    Header,
    UnreadableError,
    check_header,
    max_pixels,
    read_header,
    tiff_header,
    undecodable,
    unreadable,
    upright,
)
from ducseg.data.files.overlapping import quiet
from ducseg.data.files.raster_places import Place, pixels_away
from ducseg.data.files.reading import check_channels
from ducseg.errors import UserError, explain, package

__all__ = [
    "INSTALL", "Raster", "bounded", "check_same_place", "decode_finite", "explained", "is_placed", "is_raster",
    "open_placed", "open_raster", "opened_raster", "place_of", "read_finite", "without_data",
]  # fmt: skip

INSTALL = "'ducseg[geo]'"
_TIFFS = (".tif", ".tiff")
_WITH_WORLD_FILES = (".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff")  # that GDAL reads, so that they are rasters
_CACHE = 128 << 20  # bytes of decoded blocks
_DRIVERS = ["GTiff", "PNG", "JPEG", "BMP", "PNM", "WEBP"]
"""GDAL's, of `PICTURE_SUFFIXES`: of others (VRT, WMS) a file may be a list of files and addresses to open."""
_ELSEWHERE = 0.5  # pixels
_ROWS = 512  # read together, to be reduced


class Raster:
    """An open raster; `open_raster` makes one.

    Attributes:
        path: of the file; size: (H, W); place: where it lies.
        files: itself and what lies beside it and belongs to it: world file, overviews, mask.
        pixels: what it gives: grey or RGB bytes as RGB, or its channels as stored.
    """

    def __init__(
        self, path: Path, source: Any, pixels: Pixels = RGB, *, inverted: bool = False, bits: int = 8,
        decoded: NDArray[Any] | None = None,
    ) -> None:  # fmt: skip
        self.path, self._source, self.pixels, self._inverted, self._decoded = path, source, pixels, inverted, decoded
        self._largest = 2**bits - 1
        self.size: tuple[int, int] = (source.height, source.width)
        self.place = Place.of(source)
        beside = (path.with_suffix(one) for one in sorted(_world_files(path.suffix.lower())))  # not all drivers name it
        self.files = tuple(dict.fromkeys([*map(Path, source.files), *(one for one in beside if one.exists())]))
        kinds = [one.name for one in source.colorinterp]
        self._bands = [number + 1 for number, kind in enumerate(kinds) if kind != "alpha"]
        masks = {flag.name for flags in source.mask_flag_enums for flag in flags}
        self._known = masks != {"all_valid"}
        self._palette = None
        if kinds[0] == "palette":
            colours = source.colormap(1)
            self._palette = np.array([colours.get(value, (0, 0, 0))[:3] for value in range(256)], np.uint8)

    def rows(self, begin: int, end: int) -> NDArray[Any]:
        """RGB uint8 (end - begin, W, 3); grey is repeated, a palette expanded, alpha dropped. Of other `pixels`, these.

        In these, what is no finite number or has no data is the mean of its channel's others there, 0 without any.

        Raises:
            UserError: the file is damaged there.
        """
        if self._decoded is None:
            picture = self._picture(self._read(self._bands, begin, end, (end - begin, self.size[1])))
        else:
            picture = self._decoded[begin:end].copy()
        return picture if self.pixels == RGB else self._filled(picture, self.with_data(begin, end))

    def known(self, begin: int, end: int) -> NDArray[np.bool_] | None:
        """Where there are data (end - begin, W), in float32 finite numbers; None: everywhere."""
        finite: NDArray[np.bool_] | None = None
        if self.pixels.dtype == "float32":
            finite = np.isfinite(self._read(self._bands, begin, end, (end - begin, self.size[1]))).all(0)
        with_data = self.with_data(begin, end)
        return finite if with_data is None else with_data if finite is None else with_data & finite

    def with_data(self, begin: int, end: int) -> NDArray[np.bool_] | None:
        """Where its nodata value, mask or alpha leave data (end - begin, W), whatever these are; None: everywhere."""
        return self._mask(begin, end, (end - begin, self.size[1]))

    def reduced(self, factor: int) -> NDArray[Any]:
        """As `rows`, as many times smaller on both sides (rounded up), each pixel the mean of those it stands for."""
        height, width = (-(-side // factor) for side in self.size)
        rows = max(1, _ROWS // factor)
        parts, known = [], []
        for begin in range(0, height, rows):
            end = min(begin + rows, height)
            bottom = min(end * factor, self.size[0])
            parts.append(self._read(self._bands, begin * factor, bottom, (end - begin, width), "average"))
            known.append(self._mask(begin * factor, bottom, (end - begin, width)))
        with_data = np.concatenate([one for one in known if one is not None]) if self._known else None
        picture = self._picture(np.concatenate(parts, axis=1))
        return picture if self.pixels == RGB else self._filled(picture, with_data)

    def _mask(self, begin: int, end: int, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        if not self._known:
            return None
        with explained(self.path):
            return np.asarray(self._source.dataset_mask(window=((begin, end), (0, self.size[1])), out_shape=shape) > 0)

    def _read(
        self, bands: list[int], begin: int, end: int, shape: tuple[int, int], how: str = "nearest"
    ) -> NDArray[Any]:
        from rasterio.enums import Resampling

        window, method = ((begin, end), (0, self.size[1])), Resampling[how if self._palette is None else "nearest"]
        with explained(self.path):
            found = self._source.read(bands, window=window, out_shape=(len(bands), *shape), resampling=method)
        return as_taken(np.asarray(found))

    def _picture(self, bands: NDArray[Any]) -> NDArray[Any]:
        # GDAL has white and black of 1 bit as a palette
        if self._inverted and (self._palette is None or self.pixels != RGB):
            bands = np.subtract(self._largest, bands, dtype=np.uint8)
        if self.pixels != RGB:
            return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
        if self._palette is not None:
            return np.asarray(self._palette[bands[0]])
        bands = bands if self._largest == 255 else bands * np.uint8(255 // self._largest)
        return np.ascontiguousarray(np.moveaxis(bands if len(bands) == 3 else bands[[0, 0, 0]], 0, 2))

    def _filled(self, picture: NDArray[Any], known: NDArray[np.bool_] | None) -> NDArray[Any]:
        fill_undefined(picture, self.path, None if known is None else ~known, or_zero=True)
        return picture


def is_raster(path: Path) -> bool:
    """Whether a file is read by rows and its results are TIFFs: it `is_placed`, or is a TIFF of many pixels.

    Without rasterio only those of many pixels are, and say then that it is missing.

    Raises:
        UnreadableError: a file that is there and cannot be read.
    """
    header = _header(path)
    if header is None:
        return False
    if header.placed and find_spec("rasterio") is not None:
        return True
    return path.suffix.lower() in _TIFFS and header.size[0] * header.size[1] > max_pixels()


def without_data(path: Path) -> NDArray[np.bool_] | None:
    """(H, W), where a file that `predict` reads by rows has none, as `Raster.with_data` says; None: nowhere."""
    if not is_raster(path):
        return None
    try:
        with open_placed(path) as raster:
            known = raster.with_data(0, raster.size[0])
    except UnreadableError:
        raise
    except UserError:  # what is not read by rows is read whole, with what is to be said of it
        return None
    return None if known is None or known.all() else ~known


def read_finite(path: Path, wanted: Pixels) -> NDArray[Any]:
    """As `read_pixels`, and of others than `RGB` with `fill_undefined`: what a network takes; raises as both."""
    picture = read_pixels(path, wanted)
    if wanted != RGB:
        fill_undefined(picture, path, without_data(path))
    return picture


def decode_finite(data: bytes, name: Path, wanted: Pixels) -> NDArray[Any]:
    """As `read_finite`, of a file's bytes; `name` is what errors call it."""
    picture, unknown = decode_pixels(data, name, wanted), None
    if wanted == RGB:
        return picture
    header = read_header(data, name)
    if header.placed and find_spec("rasterio") is not None:
        import rasterio

        with explained(name), quiet, rasterio.MemoryFile(data) as file, file.open() as source:
            unknown = np.asarray(upright(source.dataset_mask() == 0, header.orientation))
    fill_undefined(picture, name, unknown)
    return picture


def check_same_place(image: Path, label: Path) -> None:
    """Refuse a mask of an image's size whose corners lie half a pixel or more from the image's.

    What has no place, or none that can be compared, may be any image's.

    Raises:
        UserError: such a mask; a damaged file.
    """
    if not (is_raster(image) and is_raster(label)):
        return
    with opened_raster(image) as one, opened_raster(label) as other:
        away = pixels_away(Place.of(one), Place.of(other), (one.height, one.width))
    if away >= _ELSEWHERE:
        raise explain(
            f"label {label}",
            found=f"a place {away:.1f} pixels from that of {image}",
            needed="the same",
            fix=f"rio warp {label} OUT.tif --like {image} --resampling nearest lays it over the image; if it is right "
            "pixel by pixel as it is, save it without a place (PNG).",
        )


def place_of(path: Path) -> tuple[Place, tuple[int, int]] | None:
    """Where a picture that `is_raster` lies by a transform, and its size (H, W); None: any other."""
    if not is_raster(path):
        return None
    with opened_raster(path) as source:
        return None if source.transform.is_identity else (Place.of(source), (source.height, source.width))


def is_placed(path: Path) -> bool:
    """Whether a picture has a place, a TIFF's own or a world file's, or a nodata value; raises as `is_raster`."""
    header = _header(path)
    return header is not None and header.placed


def _header(path: Path) -> Header | None:
    suffix = path.suffix.lower()
    if suffix not in _WITH_WORLD_FILES:
        return None
    try:
        header = tiff_header(path) if suffix in _TIFFS else None
        if suffix in _TIFFS and (header is None or header.placed):
            return header
        if not any(path.with_suffix(one).exists() for one in _world_files(suffix)):
            return header
        header = header or read_header(path.read_bytes(), path)
        return replace(header, placed=header.orientation == 1)  # a picture that EXIF turns does not lie so
    except UnreadableError:
        raise
    except UserError:  # reading says what is wrong
        return None
    except OSError as error:
        raise unreadable(path, error) from None


def _world_files(suffix: str) -> set[str]:
    """The endings of what may lie beside a file of one, as GDAL finds it: ".tfw", ".tifw", ".wld", in capitals too."""
    names = {f".{suffix[1:2]}{suffix[-1:]}w", f"{suffix}w", ".wld"}
    return names | {name.upper() for name in names}


@contextmanager
def open_placed(path: Path) -> Iterator[Raster]:
    """Open a picture of any format, bands and size for its size and place, a world file's too, and where it has data.

    Raises:
        UserError: a damaged file, rasterio not installed.
    """
    package("rasterio", what=f"picture {path}", install=INSTALL)
    with opened_raster(path) as source:
        yield Raster(path, source)


def bounded() -> AbstractContextManager[Any]:
    """rasterio's settings with a small cache of blocks, for what is read or written by rows."""
    import rasterio

    env: AbstractContextManager[Any] = rasterio.Env(GDAL_CACHEMAX=_CACHE)
    return env


@contextmanager
def opened_raster(path: Path) -> Iterator[Any]:
    """rasterio's data set of a file, with a small cache; raises `UserError` where it does not open."""
    from rasterio.io import DatasetReader

    with bounded():
        with explained(path), quiet:
            source = DatasetReader(str(path), driver=_DRIVERS, sharing=False)
        with source:
            yield source


@contextmanager
def open_raster(path: Path, pixels: Pixels = RGB) -> Iterator[Raster]:
    """Open a TIFF of any size, or a picture that `is_placed`, by rows.

    Args:
        pixels: that it must hold; `RGB`: grey or RGB of 8 bits.

    Raises:
        UserError: no or a damaged one, several pages, other pixels, rasterio not installed.
    """
    package("rasterio", what=f"raster {path}", install=INSTALL)
    header = tiff_header(path)
    if header is None and is_placed(path):  # all of it as training reads it: GDAL's decoder gives other colours
        decoded = read_pixels(path, pixels)
        with opened_raster(path) as source:
            yield Raster(path, source, pixels, decoded=decoded)
        return
    if header is None:
        raise undecodable(path, b"", "no TIFF")
    check_header(header, path, any_size=True)
    if pixels == RGB:
        check_channels(header, path)
    with opened_raster(path) as source:
        bands = sum(one.name != "alpha" for one in source.colorinterp)
        if pixels != RGB:
            found = f"{bands} channels of {source.dtypes[0]}"
            if (bands, {pixels.dtype}) != (pixels.channels, {*map(taken_as, source.dtypes)}):
                fix = "Take it out, or convert it (gdal_translate -b, -ot)."
                raise explain(f"raster {path}", found=found, needed=pixels, fix=fix)
        elif bands not in (1, 3) or set(source.dtypes) != {"uint8"}:
            raise explain(
                f"raster {path}",
                found=f"{bands} bands of {source.dtypes[0]}",
                needed="1 (grey) or 3 (RGB) bands of 8 bits",
                fix=f"Convert it: gdal_translate -ot Byte {'-b 1 -b 2 -b 3' if bands > 3 else '-b 1'} IN OUT.",
            )
        yield Raster(path, source, pixels, inverted=header.inverted, bits=header.bits)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, OSError) as error:
        raise undecodable(path, b"", str(error.__cause__ or error)) from None
