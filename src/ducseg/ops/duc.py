"""Dense upsampling convolution and its folded space (paper section 3.1).

Legend: N pictures, L classes, H W pixels, h w places on the encoder's grid, r factor. Folding takes each r x r block of
pixels to r*r channels, row offset first, then column offset: torch's PixelShuffle order, and the released code's.
Worked example, d = 8, cell 1, L = 19: features 1x512x64x128 -> folded scores 1x19x64x64x128 -> unfolded 1x19x512x1024;
labels 1x512x1024 -> folded 1x64x64x128. With cell 2, r = 4 and the labels are first brought to 1x256x512.
"""

import math
from typing import cast

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.errors import explain, whole
from ducseg.ops.graphs import in_a_graph

__all__ = ["DenseUpsampling", "downsample_labels", "fold_labels", "shuffled", "unfold", "unshuffled"]


_FACTOR = "The output stride divided by the cell, commonly 8 or 4; cells are 1 or 2."


class DenseUpsampling(nn.Module):
    """One convolution that predicts r x r pixels at each place: (N, c, h, w) -> folded scores (N, L, r*r, h, w).

    Kernels start Gaussian with standard deviation 0.01 and biases at 0, so that training starts near log L.

    Args:
        in_channels: c.
        num_classes: L.
        factor: r, the output stride divided by the cell.
        kernel_size: odd side of the kernel.
        dilation: its rate.

    Raises:
        UserError: a size that is no whole number above 0, or an even kernel.
    """

    def __init__(
        self, in_channels: int, num_classes: int, factor: int, *, kernel_size: int = 3, dilation: int = 1
    ) -> None:
        super().__init__()
        fix = "An odd kernel keeps each place's prediction centred on it."
        in_channels = whole("in_channels of DenseUpsampling", in_channels, least=1, fix="c of the features.")
        num_classes = whole("num_classes of DenseUpsampling", num_classes, least=1, fix="1 gives one score a pixel.")
        factor = whole("factor of DenseUpsampling", factor, least=1, fix=_FACTOR)
        dilation = whole("dilation of DenseUpsampling", dilation, least=1, fix="1 is a plain convolution.")
        if whole("kernel_size of DenseUpsampling", kernel_size, least=1, fix=fix) % 2 == 0:
            raise explain("kernel_size of DenseUpsampling", found=kernel_size, needed="an odd number", fix=fix)
        self.num_classes, self.factor = num_classes, factor
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, num_classes * factor**2, kernel_size, padding=padding, dilation=dilation)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start anew, as after `to_empty`."""
        nn.init.normal_(self.conv.weight, std=0.01)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, c, h, w) to folded scores (N, L, r*r, h, w); `unfold` makes them (N, L, h*r, w*r).

        Raises:
            UserError: features of another shape.
        """
        _check("features", features, ("N", "c", "h", "w"))
        return cast(Tensor, self.conv(features).unflatten(1, (self.num_classes, self.factor**2)))


def fold_labels(labels: Tensor, factor: int) -> Tensor:
    """Space to depth for label maps: (N, H, W) -> (N, r*r, H/r, W/r), any dtype; the inverse of `unfold`.

    Raises:
        UserError: another shape, a factor that is no whole number above 0, H or W that is not a multiple of it.
    """
    _check("label map", labels, ("N", "H", "W"), factor)
    number, height, width = labels.shape
    if height % factor or width % factor:
        raise _not_a_multiple(height, width, factor)
    blocks = labels.reshape(number, height // factor, factor, width // factor, factor)
    return blocks.permute(0, 2, 4, 1, 3).reshape(number, factor**2, height // factor, width // factor)


def unfold(folded: Tensor) -> Tensor:
    """Depth to space for scores or labels of each class: (N, L, r*r, h, w) -> (N, L, h*r, w*r), any dtype.

    Raises:
        UserError: another shape, or a third size that is no square.
    """
    _check("folded scores", folded, ("N", "L", "r*r", "h", "w"))
    return _unfolded(folded)


def _unfolded(folded: Tensor) -> Tensor:
    factor = math.isqrt(folded.shape[2])
    if factor**2 != folded.shape[2] or factor < 1:
        raise explain(
            "unfold",
            found=f"{folded.shape[2]} channels a class in a tensor of shape {tuple(folded.shape)}",
            needed="a square number, r*r",
            fix="Pass (N, L, r*r, h, w).",
        )
    return shuffled(folded.flatten(1, 2), factor)


torch.fx.wrap("_unfolded")  # its factor is a size, which torch.fx does not know while it traces


def shuffled(maps: Tensor, factor: int) -> Tensor:
    """(N, C*r*r, h, w) to (N, C, h*r, w*r): `pixel_shuffle`, whose gradient of no pictures at all is not to be had."""
    if in_a_graph() or maps.numel():
        return F.pixel_shuffle(maps, factor)
    number, channels, height, width = maps.shape
    return maps.reshape(number, channels // factor**2, height * factor, width * factor)


def unshuffled(maps: Tensor, factor: int) -> Tensor:
    """The inverse of `shuffled`: `pixel_unshuffle`, which leaves no pictures at all as they are."""
    if in_a_graph() or maps.numel():
        return F.pixel_unshuffle(maps, factor)
    number, channels, height, width = maps.shape
    return maps.reshape(number, channels * factor**2, height // factor, width // factor)


def downsample_labels(labels: Tensor, cell: int) -> Tensor:
    """Nearest downsampling (N, H, W) -> (N, H/cell, W/cell): one pixel of each cell, the one nearest its centre.

    That is the pixel at ((cell - 1) // 2, (cell - 1) // 2): for cell 2 the upper left one, as with OpenCV's nearest
    resize in the released code.

    Raises:
        UserError: another shape, a cell that is no whole number above 0, H or W that is not a multiple of it.
    """
    _check("label map", labels, ("N", "H", "W"), cell)
    height, width = labels.shape[-2:]
    if height % cell or width % cell:
        raise _not_a_multiple(height, width, cell)
    first = (cell - 1) // 2
    return labels[..., first::cell, first::cell]


def _check(what: str, values: Tensor, axes: tuple[str, ...], factor: int = 1) -> None:
    if in_a_graph():
        return
    shape = f"({', '.join(axes)})"
    if not isinstance(values, Tensor):
        raise explain(
            what,
            found=f"a {type(values).__name__}",
            needed=f"a tensor {shape}",
            fix="torch.from_numpy(x) makes one of an array.",
        )
    if values.ndim != len(axes):
        raise explain(what, found=f"shape {tuple(values.shape)}", needed=shape, fix="A single one takes x[None].")
    whole("factor", factor, least=1, fix=_FACTOR)


def _not_a_multiple(height: int, width: int, factor: int) -> Exception:
    return explain(
        "label map",
        found=f"{height}x{width} pixels",
        needed=f"multiples of {factor}",
        fix=f"Pad it to {height + -height % factor}x{width + -width % factor} with 255, which is ignored.",
    )
