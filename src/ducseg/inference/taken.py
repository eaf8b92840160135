"""What a network takes: pictures as arrays of its kind, checked, several as one batch, resized."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.channels import RGB, Pixels, fill_undefined
from ducseg.data.files.pillow import rgb_of
from ducseg.errors import UserError, explain
from ducseg.metrics.confusion import as_array
from ducseg.models.preprocessing import Preprocessing

__all__ = ["as_picture", "pixels_taken", "resized", "stacked", "too_large"]

_EMPTY = "That is empty: look at how it was read or cut out."
_BATCH = "That is a batch: pass one picture at a time, or all to labels_of or probabilities_of."


def as_picture(image: Any, pixels: Pixels = RGB) -> NDArray[Any]:
    """`image` as RGB uint8 (H, W, 3), not copied; `UserError` where it is something else, with how to convert it.

    Args:
        image: an array, a tensor, or a PIL image of any mode of 8 bits, see `rgb_of`.
        pixels: of other channels or another type, (H, W, C) is asked for, of one channel (H, W) too; float32 values
            that are no finite numbers become the mean of their channel's others, in a copy.
    """
    array = as_array(rgb_of(image) if pixels == RGB or getattr(image, "mode", None) in ("P", "PA") else image)
    it = "image.cpu().numpy()" if hasattr(image, "detach") else "image"
    if pixels != RGB:
        return _as_channels(array, pixels, it)
    shape = array.shape
    if array.ndim == 3 and shape[2] == 3 and array.dtype == np.uint8 and array.size:
        return array
    if not array.size:
        fix = _EMPTY
    elif array.ndim == 4:
        fix = _BATCH
    elif array.ndim == 2 or (array.ndim == 3 and shape[2] == 1):
        fix = "That is grey: repeat it, np.stack([grey] * 3, axis=-1), or PIL's image.convert('RGB')."
    elif array.ndim == 3 and shape[2] == 4:
        fix = "That has an alpha channel: pass image[:, :, :3]."
    elif array.ndim == 3 and shape[2] != 3 and shape[0] == 3:
        fix = f"That has the channels first: pass {it}.transpose(1, 2, 0)."
    elif array.dtype.kind == "f":
        fix = f"Bring it to 0..255: ({it} * 255).round().astype(np.uint8) if it lies in 0..1."
    elif array.dtype.kind in "ui":
        fix = f"Bring it to 0..255 and {it}.astype(np.uint8)."
    else:
        fix = "Read it with cv2.imread(path)[:, :, ::-1] or PIL's Image.open(path).convert('RGB')."
    raise explain("image", found=_found(array, image), needed="RGB uint8 (H, W, 3), not empty", fix=fix)


def _found(array: NDArray[Any], image: Any) -> str:
    return f"{array.dtype} {array.shape}" if array.ndim else f"{type(image).__name__} {image!r}"


def _as_channels(array: NDArray[Any], pixels: Pixels, it: str) -> NDArray[Any]:
    if array.ndim == 2 and pixels.channels == 1:
        array = array[..., None]
    shape = array.shape
    if array.ndim == 3 and shape[2] == pixels.channels and array.dtype == pixels.dtype and array.size:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            array = array.copy()
            fill_undefined(array, "that was passed")
        return array
    if not array.size:
        fix = _EMPTY
    elif array.ndim == 4:
        fix = _BATCH
    elif array.ndim == 3 and shape[0] == pixels.channels != shape[2]:
        fix = f"That has the channels first: pass {it}.transpose(1, 2, 0)."
    elif array.ndim == 3 and shape[2] == pixels.channels:
        fix = "Pass the values as the files of training hold them."
    else:
        fix = "Pass all channels in the order of training; ducseg.data.files.channels.read_channels(path) reads them."
    raise explain(
        "image",
        found=f"{array.dtype} {shape}",
        needed=f"{pixels.dtype} (H, W, {pixels.channels}), as the network was trained on, not empty",
        fix=fix,
    )


def stacked(pictures: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Pictures of one size as (N, H, W, C)."""
    sizes = dict.fromkeys(picture.shape[:2] for picture in pictures)
    if len(sizes) != 1:
        found = ", ".join(f"{height} x {width}" for height, width in sizes) or "no picture"
        raise explain("pictures at once", found=found, needed="one size (H x W)", fix="Pass them one by one.")
    return np.stack(pictures) if len(pictures) > 1 else pictures[0][None]


def resized(pictures: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if pictures.shape[1:3] == (height, width):
        return pictures
    # bilinear, as in training's scale jitter and the released code
    size, how = (width, height), cv2.INTER_LINEAR
    try:
        resized = [cv2.resize(np.ascontiguousarray(one), size, interpolation=how) for one in pictures]
    except cv2.error as error:  # how OpenCV says that there is no memory, or that a side is beyond its integers
        raise MemoryError from error
    return np.stack([np.asarray(one).reshape(height, width, -1) for one in resized])


def too_large(pictures: NDArray[np.uint8], device: object) -> UserError:
    """The error for pictures (N, H, W, 3) that need more memory than there is."""
    count, height, width = pictures.shape[:3]
    several = f"{count} pictures" if count > 1 else "a picture"
    return explain(
        "not enough memory",
        found=f"{several} of {height} x {width} pixels (H x W) on {device}",
        needed="one that fits, whole",
        fix="Label it in windows, tile=512 (--tile 512), or take scales=(0.5,) (--scales 0.5) or another device.",
    )


def pixels_taken(preprocessing: Preprocessing) -> Pixels:
    """What pictures a network takes, by how they become its input."""
    return Pixels(preprocessing.num_channels, preprocessing.dtype)
