"""Adelaide context: piecewise training of a deep structured model (Lin, Shen, van den Hengel and Reid, CVPR 2016).

FeatMap-Net sees the picture at three scales: VGG-16's five blocks are shared, a sixth block is each scale's own; the
maps are brought to the largest and joined, then pooled over windows of 5 and 9 places without losing places (sliding
pyramid pooling) and joined again. On each place stands a node of a conditional random field. Unary-Net scores the
classes of a node, a Pairwise-Net the pairs of classes of two nodes, p and q, from both nodes' features: one for nodes
around each other, one for nodes above p; pairs are ordered, so that "boat over water" is not "water over boat".

Training is piecewise: cross-entropy of the L-way unary scores, and of the L*L-way scores of the pairs of each kind, as
if each stood alone; no inference. Prediction takes three mean-field steps with all of them.

Legend: N pictures, L classes, h w nodes, O offsets in a range box. Worked example, 1x3x512x1024, L = 19:

| | shape |
|---|---|
| pictures at 1.2, 0.8, 0.4 | 1x3x624x1232, 1x3x416x832, 1x3x208x416 |
| VGG-16, pool5 with stride 1 | 1x512x39x77, 1x512x26x52, 1x512x13x26 |
| block 6, joined at the largest | 1x1536x39x77 |
| pyramid pooling | 1x4608x39x77 |
| unary scores | 1x19x39x77 |
| pairs around (7x7 less the node itself), above (7x7) | 1x19x19x48x39x77, 1x19x19x49x39x77 |
| scores, brought to every 8 pixels | 1x19x1x64x128 |

No code of the authors is public. What the paper leaves open is as in the port Vaan5/piecewisecrf: a 1x1 convolution of
1024 first in block 6, batch norm there, boxes of 7 x 7 nodes (the paper: 0.4 of the map's shorter side). The later
refinement with middle features is not here. The dense CRF that follows is `--crf` of eval and predict.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ducseg.devices import without_autocast
from ducseg.models.encoder import NamedEncoder
from ducseg.models.vgg import Vgg

__all__ = [
    "Adelaide",
    "mean_field",
    "neighbours",
    "pair_labels",
    "pooled_pyramid",
    "range_box",
    "shifted_back",
    "shifts",
]

SCALES = (6, 4, 2)
"""Of the picture, in fifths."""

_GRID, _STRIDE, _BOX, _STEPS = 8, 16, 7, 3


def range_box(side: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(rows, columns) from a node to those around it and to those above it, in boxes of side x side nodes."""
    reach = range(-(side // 2), side // 2 + 1)
    around = [(row, column) for row in reach for column in reach if (row, column) != (0, 0)]
    return around, [(row, column) for row in range(-side, 0) for column in reach]


def shifts(offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Kernels of one 1 each, (O, 1, 2 most rows + 1, 2 most columns + 1), whose convolution looks at each offset.

    So in a graph all neighbours are one operator, for any number of nodes.
    """
    rows, columns = (max(abs(offset[axis]) for offset in offsets) for axis in (0, 1))
    kernel = torch.zeros(len(offsets), 1, 2 * rows + 1, 2 * columns + 1)
    for index, (row, column) in enumerate(offsets):
        kernel[index, 0, rows + row, columns + column] = 1
    return kernel


def neighbours(maps: Tensor, looks: Tensor) -> Tensor:
    """Of each node the value at each offset, 0 outside: (N, C, h, w) and `shifts` of O offsets to (N, C, O, h, w)."""
    found = F.conv2d(maps.flatten(0, 1)[:, None], looks.to(maps.dtype), padding=_reach(looks))
    return found.unflatten(0, (-1, maps.shape[1]))  # type: ignore[no-untyped-call, no-any-return]


def shifted_back(messages: Tensor, looks: Tensor) -> Tensor:
    """The sum of what each node sends to each offset, at where it arrives: (N, C, O, h, w) to (N, C, h, w)."""
    found = F.conv_transpose2d(messages.flatten(0, 1), looks.to(messages.dtype), padding=_reach(looks))
    return found[:, 0].unflatten(0, (-1, messages.shape[1]))  # type: ignore[no-untyped-call, no-any-return]


def _reach(looks: Tensor) -> list[int]:
    return [side // 2 for side in looks.shape[2:]]


def pooled_pyramid(maps: Tensor) -> Tensor:
    """Sliding pyramid pooling: (N, c, h, w), and the largest in 5x5 and in 9x9 places around, as (N, 3c, h, w)."""
    return torch.cat([maps, *(F.max_pool2d(maps, side, 1, side // 2) for side in (5, 9))], 1)


def mean_field(unary: Tensor, pairwise: Sequence[tuple[Tensor, Tensor]], steps: int = _STEPS) -> Tensor:
    """Scores (N, L, h, w) whose softmax are the marginals after some mean-field steps, all nodes at once.

    In the unary's type, also under autocast.

    Args:
        unary: (N, L, h, w).
        pairwise: for each kind of pair, scores (N, L, L, O, h, w) of (class of p, class of q), and the `shifts` to q;
            a pair speaks to both of its nodes.
    """
    scores = unary
    with without_autocast(unary.device):
        for _ in range(steps):
            marginals, scores = scores.softmax(1), unary
            for pairs, looks in pairwise:
                to_p = torch.einsum("nklohw,nlohw->nkhw", pairs, neighbours(marginals, looks))
                to_q = torch.einsum("nklohw,nkhw->nlohw", pairs, marginals)
                scores = scores + to_p + shifted_back(to_q, looks)
    return scores


def pair_labels(labels: Tensor, looks: Tensor, num_classes: int) -> Tensor:
    """Of pairs of nodes: class of p times L plus class of q, int64 (N, O, h, w); -1 where one has none or is outside.

    Args:
        labels: uint8 (N, h, w).
        looks: `shifts` to q.
    """
    mine = labels[:, None].long()
    theirs = neighbours(labels[:, None].float() + 1, looks)[:, 0].long() - 1  # -1 outside
    known = (mine < num_classes) & (theirs < num_classes) & (theirs >= 0)
    return torch.where(known, mine * num_classes + theirs, -1)


class _PairwiseNet(nn.Module):
    """Both nodes' features joined, FC(hidden), ReLU, FC(L * L): the first layer is a sum of one map of each node."""

    looks: Tensor

    def __init__(
        self, in_channels: int, hidden: int, num_classes: int, offsets: Sequence[tuple[int, int]]
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("looks", shifts(offsets), persistent=False)
        self.of_p = nn.Conv2d(in_channels, hidden, 1)
        self.of_q = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.scores = nn.Conv2d(hidden, num_classes**2, 1)
        _start(self.of_p, self.of_q)
        _start(self.scores, small=True)

    def forward(self, features: Tensor) -> Tensor:
        """(N, c, h, w) to (N, L, L, O, h, w)."""
        joined = (self.of_p(features)[:, :, None] + neighbours(self.of_q(features), self.looks)).relu()
        scores: Tensor = self.scores(joined.flatten(2, 3))
        return scores.unflatten(2, (len(self.looks), -1)).unflatten(1, (self.num_classes,) * 2)  # type: ignore[no-untyped-call, no-any-return]


def _start(*layers: nn.Conv2d, small: bool = False) -> None:
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.001) if small else nn.init.kaiming_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _block6(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for out, side in ((16 * width, 1), (8 * width, 3), (8 * width, 3)):
        layers += [nn.Conv2d(channels, out, side, padding=side // 2, bias=False), nn.BatchNorm2d(out, eps=1e-3)]
        layers.append(nn.ReLU(inplace=True))
        nn.init.kaiming_normal_(cast(nn.Conv2d, layers[-3]).weight)
        channels = out
    return nn.Sequential(*layers)


class Adelaide(nn.Module):
    """FeatMap-Net's own part, Unary-Net, two Pairwise-Nets.

    Args:
        encoder: VGG-16 at output stride 16.
        num_classes: L.
        box: side of the range boxes, in nodes, odd.

    Attributes:
        grid_stride: 8: nodes are 13.3 pixels apart, and their scores are brought there.
        factor: 1.
    """

    takes_intermediates, runs_encoder = False, True
    grid_stride, factor = _GRID, 1

    def __init__(self, encoder: NamedEncoder, num_classes: int, *, box: int = _BOX) -> None:
        super().__init__()
        assert isinstance(encoder, Vgg), "Architecture.conflicts reports this"
        hidden = 8 * encoder.width
        self.blocks = nn.ModuleList(_block6(encoder.out_channels, encoder.width) for _ in SCALES)
        joined = 3 * len(SCALES) * hidden
        self.unary = nn.Sequential(
            nn.Conv2d(joined, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, num_classes, 1)
        )
        _start(cast(nn.Conv2d, self.unary[0]))
        _start(cast(nn.Conv2d, self.unary[2]), small=True)
        self.around, self.above = (_PairwiseNet(joined, hidden, num_classes, offsets) for offsets in range_box(box))

    def forward(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """Images (N, C, H, W), H and W multiples of 16, to scores (N, L, 1, H/8, W/8), after the mean field."""
        features = self.features(images, encoder)
        pairwise = [(net(features).float(), net.looks) for net in (self.around, self.above)]
        return _on_grid(mean_field(self.unary(features).float(), pairwise), images)

    def supervised(self, images: Tensor, encoder: NamedEncoder) -> tuple[Tensor, ...]:
        """The unary scores, without a mean field, and those of the pairs of each kind."""
        features = self.features(images, encoder)
        return _on_grid(self.unary(features), images), self.around(features), self.above(features)

    def extra_loss(self, extras: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy of the pairs' L*L classes, the mean over the pairs of each kind, summed over the kinds."""
        total = labels.new_zeros((), dtype=torch.float32)
        for scores, net in zip(extras, (self.around, self.above)):
            wanted = pair_labels(_at_nodes(labels, scores.shape[-2:]), net.looks, net.num_classes)
            losses = F.cross_entropy(scores.flatten(1, 2).float(), wanted, ignore_index=-1, reduction="sum")
            total = total + losses / (wanted >= 0).sum().clamp_min(1)
        return total

    def features(self, images: Tensor, encoder: NamedEncoder) -> Tensor:
        """The features of every node: (N, C, H, W) to (N, 9 * 8 widths, ceil(1.2 H / 16), ceil(1.2 W / 16))."""
        rows, columns = (side // _STRIDE for side in images.shape[-2:])
        maps: list[Tensor] = []
        for scale, block in zip(SCALES, self.blocks):
            size = [(places * scale + 4) // 5 * _STRIDE for places in (rows, columns)]
            of_scale = encoder(F.interpolate(images, size, mode="bilinear", antialias=False, align_corners=False))
            maps.append(block(F.max_pool2d(F.pad(of_scale, (0, 1, 0, 1)), 2, 1)))  # pool5; values are not negative
        joined = [F.interpolate(one, maps[0].shape[-2:], mode="bilinear", align_corners=False) for one in maps[1:]]
        return pooled_pyramid(torch.cat([maps[0], *joined], 1))


def _on_grid(scores: Tensor, images: Tensor) -> Tensor:
    size = [side // _GRID for side in images.shape[-2:]]
    return F.interpolate(scores, size, mode="bilinear", align_corners=False).unsqueeze(2)


def _at_nodes(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Of each node the label in its middle: uint8 (N, H, W) to (N, h, w)."""
    rows, columns = (
        ((torch.arange(nodes, device=labels.device) + 0.5) * (pixels / nodes)).long()
        for nodes, pixels in zip(size, labels.shape[-2:])
    )
    return labels[:, rows[:, None], columns]
