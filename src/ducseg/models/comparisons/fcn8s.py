"""FCN-8s (Shelhamer, Long and Darrell 2017, arXiv 1605.06211) and its stages FCN-32s and FCN-16s, on VGG-16.

VGG-16 made of convolutions only: fc6 has 7x7, fc7 1x1. A 1x1 convolution scores its output, skips score pool4 and pool3
too; scores are upsampled by 2 and added, and at last upsampled by 8 to pixels. Upsampling is a transposed convolution
("deconvolution") with a bilinear kernel: fixed in the released networks, or learned from there. conv1_1 is padded by
100, so that fc6, unpadded, has places for the whole picture; each sum crops the finer scores to the coarser, by what
Caffe's coordinate maps give.

| worked example, 1x3x512x1024, L = 21 | rows | columns |
|---|---|---|
| conv1_1, padded by 100 | 710 | 1222 |
| pool3 / pool4 / pool5 | 89 / 45 / 23 | 153 / 77 / 39 |
| score_fr (fc6 takes 6 places off) | 17 | 33 |
| upscore2, kernel 4, stride 2; score_pool4 from place 5 on | 36 | 68 |
| upscore_pool4, kernel 4, stride 2; score_pool3 from place 9 on | 74 | 138 |
| upscore8, kernel 16, stride 8; from pixel 31 on | 600 -> 512 | 1112 -> 1024 |

Scores are 1x21x1x512x1024. Source: the authors' code, shelhamer/fcn.berkeleyvision.org, voc-fcn8s and voc-fcn8s-atonce
(all at once, with pool4 scaled by 0.01 and pool3 by 0.0001). Score layers start at zero, as there.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.models.encoder import NamedEncoder
from ducseg.models.vgg import FullyConvolutional, Vgg

__all__ = ["CROPS", "BilinearDeconvolution", "Fcn", "bilinear_kernel"]

_PADDING = 100
CROPS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}
"""First place that is kept of score_pool4, score_pool3 and the pixels, by the stride of the last upsampling."""

_AT_ONCE = {"res3": 0.01, "res2": 0.0001}


def bilinear_kernel(size: int) -> Tensor:
    """Caffe's kernel (size, size) of a transposed convolution by size / 2 that interpolates bilinearly.

    >>> bilinear_kernel(4)[1]
    tensor([0.1875, 0.5625, 0.5625, 0.1875])
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - (torch.arange(size) - centre).abs() / factor
    return line[:, None] * line


class BilinearDeconvolution(nn.Module):
    """(N, L, h, w) to (N, L, s*h + s, s*w + s): a transposed convolution with kernel 2s and stride s, unpadded.

    Args:
        learned: whether the kernel, L x L x 2s x 2s then and bilinear at the start, is trained; else each class is
            upsampled by itself.
    """

    def __init__(self, num_classes: int, stride: int, *, learned: bool) -> None:
        super().__init__()
        self.stride, self.learned = stride, learned
        kernel = bilinear_kernel(2 * stride)
        if learned:
            self.weight = nn.Parameter(torch.eye(num_classes)[:, :, None, None] * kernel)
        else:
            self.register_buffer("kernel", kernel[None, None], persistent=False)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, learned={self.learned}"

    def forward(self, scores: Tensor) -> Tensor:
        if self.learned:
            return F.conv_transpose2d(scores, self.weight, stride=self.stride)
        count, classes, height, width = scores.shape
        kernel = cast(Tensor, self.kernel).to(scores.dtype)
        single = F.conv_transpose2d(scores.reshape(-1, 1, height, width), kernel, stride=self.stride)
        return single.reshape(count, classes, *single.shape[-2:])


class Fcn(nn.Module):
    """FCN-32s, -16s or -8s.

    Args:
        encoder: VGG-16 at output stride 32.
        num_classes: L.
        stride: of the last upsampling: 32, 16 or 8.
        learned: whether deconvolutions are trained.
        at_once: pool4 and pool3 are scaled before they are scored, as where all is trained at once.

    Attributes:
        grid_stride, factor: 1: one score a pixel.
    """

    takes_intermediates, runs_encoder = False, True
    grid_stride, factor = 1, 1

    def __init__(
        self, encoder: NamedEncoder, num_classes: int, *, stride: int = 8, learned: bool = False, at_once: bool = False
    ) -> None:
        super().__init__()
        assert isinstance(encoder, Vgg), "Architecture.conflicts reports this"
        hidden = 64 * encoder.width
        self.classifier = FullyConvolutional(encoder.out_channels, hidden)
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)
        self._skips = ("res3", "res2")[: {32: 0, 16: 1, 8: 2}[stride]]  # pool4 and pool3 are of these
        self._scales = {name: _AT_ONCE[name] if at_once else 1.0 for name in self._skips}
        self._crops = CROPS[stride]
        names = [f"score_{pool}" for pool in ("pool4", "pool3")[: len(self._skips)]]
        self.scores = nn.ModuleDict(
            {name: nn.Conv2d(encoder.channels[of], num_classes, 1) for name, of in zip(names, self._skips)}
        )
        self.doublings = nn.ModuleList(BilinearDeconvolution(num_classes, 2, learned=learned) for _ in names)
        self.upscore = BilinearDeconvolution(num_classes, stride, learned=learned)
        for score in (self.score_fr, *self.scores.values()):
            for parameter in score.parameters():
                nn.init.zeros_(parameter)

    def extra_repr(self) -> str:
        return f"scales={self._scales}"

    def forward(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """Images (N, C, H, W), H and W multiples of 32, to scores (N, L, 1, H, W)."""
        maps = encoder.intermediates(F.pad(images, (_PADDING - 1,) * 4))  # the convolution itself pads by 1
        scores: Tensor = self.score_fr(self.classifier(maps["res5"]))
        for name, score, double, crop in zip(self._skips, self.scores.values(), self.doublings, self._crops):
            coarse = double(scores)
            pooled = F.max_pool2d(maps[name], 2, ceil_mode=True) * self._scales[name]
            scores = coarse + _crop(score(pooled), crop, coarse)
        return _crop(self.upscore(scores), self._crops[-1], images).unsqueeze(2)


def _crop(scores: Tensor, first: int, like: Tensor) -> Tensor:
    """What Caffe's Crop layer keeps: from place `first` on, as many as `like` has."""
    height, width = like.shape[-2:]
    return scores[..., first : first + height, first : first + width]
