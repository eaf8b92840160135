"""Pictures of 1 to 16 channels of 8, 16 or 32 bits, as they are: multispectral rasters, depth, microscopy.

`read_image` gives RGB of 8 bits; this gives what the file holds. Legend: H, W pixels as a viewer shows it, C channels.
"""

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.header import JPEG_START, check_header, read_header, undecodable, upright
from ducseg.data.files.reading import read_image
from ducseg.errors import explain, package

__all__ = ["MOST_CHANNELS", "read_channels"]

MOST_CHANNELS = 16
_DTYPES = ("uint8", "uint16", "float32")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_channels(path: Path) -> NDArray[Any]:
    """Read a picture as (H, W, C): uint8, uint16 or float32, its channels in the file's order, RGB for colours.

    An alpha channel is dropped, a palette expanded, an EXIF orientation applied, as in `read_image`. TIFFs are read
    by rasterio (`pip install ducseg[geo]`), which knows any number of bands and every compression.

    Raises:
        UserError: missing, empty, truncated or undecodable file, other types, more than 16 channels, several pages,
            more than `header.max_pixels()`; rasterio not installed.
    """
    data = path.read_bytes() if path.is_file() else b""
    if not data:
        return read_image(path)  # says what is wrong
    header = read_header(data, path)
    check_header(header, path)
    if header.dtype not in _DTYPES or not 1 <= header.channels <= MOST_CHANNELS:
        raise explain(
            f"picture {path}",
            found=f"{header.channels} channels of {header.dtype}",
            needed=f"1 to {MOST_CHANNELS} of {', '.join(_DTYPES)}",
            fix="Choose bands or convert: gdal_translate -ot UInt16 -b 1 -b 2 IN OUT.",
        )
    if data[:4] in _TIFF:
        return upright(_read_bands(path, header.channels), header.orientation)
    if header.dtype == "uint8":
        rgb = read_image(path)
        return rgb if header.channels == 3 else rgb[..., :1].copy()
    assert not data.startswith(JPEG_START)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if decoded is None:
        raise undecodable(path, data)
    return np.ascontiguousarray(decoded[..., ::-1] if decoded.ndim == 3 else decoded[..., None])


def _read_bands(path: Path, channels: int) -> NDArray[Any]:
    rasterio = package("rasterio", what="channels of TIFFs", install="ducseg[geo]")
    try:
        with warnings.catch_warnings(action="ignore"), rasterio.open(path) as raster:  # no coordinates: none needed
            bands = raster.read(list(range(1, channels + 1)))
    except (rasterio.errors.RasterioError, OSError) as error:
        raise undecodable(path, path.read_bytes()[:256], str(error)) from None
    return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
