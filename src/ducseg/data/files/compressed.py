"""TIFFs that image decoders do not unpack, or not as GDAL does, unpacked by rasterio (`pip install 'ducseg[geo]'`)."""

import re
from importlib.util import find_spec
from pathlib import Path

from ducseg.data.files.header import Header, undecodable
from ducseg.data.files.overlapping import quiet
from ducseg.errors import explain

__all__ = ["unpacked"]

_BY_DECODERS = (1, 2, 3, 4, 5, 8, 32773, 32946)  # none, CCITT, LZW, deflate, PackBits
_JPEG = 7  # of which decoders give rougher colours than GDAL does, by which `predict` reads rasters
_NAMES = {34887: "LERC", 34925: "LZMA", 50000: "ZSTD", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}


def unpacked(data: bytes, header: Header, path: Path) -> bytes:
    """A file's bytes; those of a TIFF in a compression of GDAL's as an uncompressed one.

    Raises:
        UserError: such a TIFF without rasterio, or one that is to be turned, which GDAL forgets; a damaged one.
    """
    compression, turned = header.compression, header.orientation != 1
    can = find_spec("rasterio") is not None and not turned
    if compression in _BY_DECODERS or (compression == _JPEG and not can):
        return data
    if not can:
        found = f"a TIFF in {_NAMES.get(compression, f'compression {compression}')}{', to be turned' if turned else ''}"
        fix = "Save it anew with LZW or deflate" + (", upright." if turned else ", or pip install 'ducseg[geo]'.")
        raise explain(f"file {path}", found=found, needed="a compression that decoders know", fix=fix)
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.shutil import copy

    try:
        with (
            quiet, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.MemoryFile(data) as file, file.open() as raster,
            rasterio.MemoryFile(ext=".tif") as plain,
        ):  # fmt: skip
            copy(raster, plain.name, driver="GTiff", BIGTIFF="IF_SAFER")
            return bytes(plain.read())
    except (rasterio.errors.RasterioError, CPLE_BaseError, OSError) as error:
        raise undecodable(path, data, re.sub(r"'?/vsimem/\S*?'? ", "it ", str(error))) from None
