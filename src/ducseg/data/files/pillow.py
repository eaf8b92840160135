"""Pictures that are in memory as Pillow's images, as the file reader gives those of files."""

from typing import Any

import numpy as np
from PIL import Image

from ducseg.errors import explain

__all__ = ["rgb_of"]


def rgb_of(image: Any) -> Any:
    """A Pillow image as RGB uint8 (H, W, 3), its pixels where they lie; anything else, and RGB, as it is.

    Grey becomes three equal channels, alpha is dropped, palettes are expanded, as in `read_image`; CMYK, YCbCr, HSV and
    LAB become RGB as Pillow has it.

    Raises:
        UserError: a mode of more than 8 bits a channel, or one that Pillow does not convert.
    """
    if not isinstance(image, Image.Image) or image.mode == "RGB":
        return image
    try:
        if image.mode.startswith(("I", "F")):
            raise ValueError("more than 8 bits")
        return np.asarray(image.convert("RGBA"))[..., :3]
    except ValueError as error:
        raise explain(
            "image",
            found=f"a PIL image of mode {image.mode} ({error})",
            needed="RGB, or 8 bits a channel that become it",
            fix="Convert it to 8 bits with the mapping that suits the camera.",
        ) from error
