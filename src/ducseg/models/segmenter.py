"""Encoder, head, classes and preprocessing in one module.

Legend: N pictures of C channels (3 unless it is built for others), L classes, d output stride, r head factor, cell =
label pixels per predicted place along one side.
Worked example, ResNet-101-DUC, d = 8, cell 2, L = 19: images 1x3x513x1024 are padded to 1x3x520x1024, features are
1x2048x65x128, folded scores 1x19x16x65x128 (r = 4), `forward` returns 1x19x513x1024.
"""

from collections.abc import Mapping
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ducseg.classes import ClassSet
from ducseg.errors import explain, whole
from ducseg.models.architecture import Architecture
from ducseg.models.encoder import Encoder, NamedEncoder
from ducseg.models.head import Head, OwnLosses
from ducseg.models.preprocessing import Preprocessing
from ducseg.models.pyramid import PICTURE
from ducseg.ops.duc import shuffled
from ducseg.ops.graphs import in_a_graph

__all__ = ["Segmenter", "check_kind", "most_probable"]

_HEAD = (
    "ducseg.models.head says what a head has; ducseg.models.heads.make_head makes one for an encoder's output_stride."
)
_ENCODER = "ducseg.models.encoder says what an encoder has: output_stride and out_channels."


class Segmenter(nn.Module):
    """A segmentation network with all that is needed to feed it and to read its answer.

    `ducseg.models.build` makes it; so can anyone from a backbone and a head of their own.

    Args:
        encoder: see `ducseg.models.encoder`.
        head: see `ducseg.models.head`.
        architecture: what `build` makes it of again; None: a part is someone's own, and it cannot be saved with its
            description.

    Attributes:
        encoder, head: the two parts.
        classes: names and colours of the L classes.
        preprocessing: how pictures become its input.
        architecture: the arguments of `build` that make it again.
        output_stride: d.
        grid_stride: pixels per place of the head's grid: d, or 1 for the deconvolution heads.
        factor: r, predicted places per grid place along one side: d / cell for DUC, else 1.
        cell: label pixels per predicted place along one side: DUC's cell, d for the bilinear head, 1 for deconvolution.
        resize_probabilities: whether the softmax comes before the last resize (DUC with cell > 1: the authors' test
            steps) or after it (the bilinear baseline).
        batch_norm_frozen: whether batch norms keep their statistics, also in training mode.
        batch_norm_fused: whether this is a copy of `fuse_batch_norm`, which is not saved.
        record: of the checkpoint it was loaded from: "metrics" (scores) and "extra" (command, ...); else empty.

    Raises:
        UserError: an encoder, a head, classes or preprocessing of another kind; strides that do not fit each other. In
            the first forward, outside a graph: maps or scores of other sizes than these promise, or of other classes.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Head,
        *,
        classes: ClassSet,
        preprocessing: Preprocessing,
        architecture: Architecture | None = None,
    ) -> None:
        super().__init__()
        check_kind("classes", classes, ClassSet)
        check_kind("preprocessing", preprocessing, Preprocessing)
        self.encoder: Encoder = encoder
        self.head: Head = head
        self.classes, self.preprocessing, self._architecture = classes, preprocessing, architecture
        self.output_stride = _positive(encoder, "output_stride", _ENCODER)
        self.grid_stride, self.factor = _positive(head, "grid_stride", _HEAD), _positive(head, "factor", _HEAD)
        if self.output_stride % self.grid_stride or self.grid_stride % self.factor:
            raise explain(
                f"head {type(head).__name__}",
                found=f"grid_stride {self.grid_stride}, factor {self.factor}, on output_stride {self.output_stride}",
                needed="a factor that divides a grid_stride that divides the encoder's output_stride",
                fix=_HEAD,
            )
        self.takes_intermediates = bool(getattr(head, "takes_intermediates", False))
        self.runs_encoder = bool(getattr(head, "runs_encoder", False))
        self.mirrors_borders = bool(getattr(head, "mirrors_borders", False))
        self.cell = self.grid_stride // self.factor
        self.resize_probabilities = self.factor > 1 and self.cell > 1
        self.batch_norm_frozen = False
        self.batch_norm_fused = False
        if (self.takes_intermediates or self.runs_encoder) and not hasattr(encoder, "intermediates"):
            raise explain(
                f"head {type(head).__name__}",
                found=f"no intermediates in {type(encoder).__name__}",
                needed="an encoder that names them: channels, strides, intermediates(images)",
                fix="Give it these (ducseg.models.encoder), or use a head on its last map.",
            )
        self.record: dict[str, Any] = {}

    @property
    def architecture(self) -> Architecture:
        """What `build` makes it of again; `UserError` where the encoder or the head is someone's own."""
        if self._architecture is None:
            raise explain(
                "architecture",
                found="a backbone or head of your own",
                needed="a network that ducseg.models.build made, to save, export or publish it with its description",
                fix="Save its tensors with torch.save(segmenter.state_dict(), FILE).",
            )
        return self._architecture

    def folded(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) of any size to folded scores (N, L, r*r, h, w), in the training space.

        Images are padded right and below to multiples of d with 0, the mean colour, or mirrored where the head
        `mirrors_borders`; nothing is cropped: h and w are the padded height and width divided by `grid_stride`.
        """
        images = self._padded(images)
        scores = self._scores(images)
        self._check_scores(images, scores)
        return scores

    def _scores(self, images: Tensor) -> Tensor:
        if self.runs_encoder:
            return self.head(images, cast(NamedEncoder, self.encoder))
        if self.takes_intermediates:
            maps = cast(NamedEncoder, self.encoder).intermediates(images)
            self._check_grid(images, maps, cast(NamedEncoder, self.encoder).strides)
            return self.head({PICTURE: images, **maps})
        features = self.encoder(images)
        self._check_grid(images, {"features": features}, {"features": self.output_stride})
        return self.head(features)

    def supervised(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `folded`, and after it what the head's own losses are of (`ducseg.models.head.OwnLosses`), if any."""
        if not hasattr(self.head, "extra_loss"):
            return (self.folded(images),)
        images = self._padded(images)
        found = cast(OwnLosses, self.head).supervised(images, cast(NamedEncoder, self.encoder))
        self._check_scores(images, found[0])
        return found

    def _padded(self, images: Tensor) -> Tensor:
        """In a graph always and by traced sizes, so that it takes pictures of any size."""
        d, (height, width) = self.output_stride, images.shape[-2:]
        below, right = (height + d - 1) // d * d - height, (width + d - 1) // d * d - width
        if not (in_a_graph() or below or right):
            return images
        if not self.mirrors_borders:
            return F.pad(images, (0, right, 0, below))
        for axis, side, more in ((-2, height, below), (-1, width, right)):
            there = torch.arange(side + more, device=images.device)
            images = images.index_select(axis, torch.minimum(there, 2 * (side - 1) - there).clamp(min=0))
        return images

    def _check_grid(self, images: Tensor, maps: Mapping[str, Tensor], strides: Mapping[str, int]) -> None:
        """A backbone of someone's own may say another stride than it has: its scores would be cropped from others."""
        if in_a_graph():  # sizes are free there
            return
        height, width = images.shape[-2:]
        wanted = {name: (height // strides[name], width // strides[name]) for name in maps}
        wrong = [f"{name} {tuple(grid.shape)}" for name, grid in maps.items() if tuple(grid.shape[-2:]) != wanted[name]]
        if wrong:
            raise explain(
                "encoder",
                found=f"{', '.join(wrong)} from {height} x {width} pixels",
                needed=f"grids of {wanted}",
                fix="Set its output_stride and strides to what it has.",
            )

    def _check_scores(self, images: Tensor, folded: Tensor) -> None:
        """A head of another stride or of other classes: its scores would be cropped, or index no class."""
        if in_a_graph():
            return
        (height, width), grid, classes = images.shape[-2:], self.grid_stride, len(self.classes)
        wanted = (len(images), classes, self.factor**2, height // grid, width // grid)
        if tuple(folded.shape) != wanted:
            raise explain(
                f"head {type(self.head).__name__}",
                found=f"folded scores {tuple(folded.shape)} from {height} x {width} pixels",
                needed=f"{wanted}, by its grid_stride {grid} and factor {self.factor}, of {classes} classes",
                fix="Make it for the encoder's output_stride and for as many classes as there are names.",
            )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) of any size to scores (N, L, H, W)."""
        return self._at_image_size(self._unfolded(self.folded(images)), images.shape[-2:])

    def probabilities(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) of any size to float32 probabilities (N, L, H, W)."""
        return self._probabilities(self.folded(images), images.shape[-2:])

    def predict_labels(self, images: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) of any size to uint8 labels (N, H, W): the most probable class.

        With one prediction a pixel, argmax is taken in folded space and only the labels are unfolded.
        """
        return self._labels(self.folded(images), images.shape[-2:])

    def labels_and_probabilities(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `predict_labels` and `probabilities` give, of one pass."""
        folded, size = self.folded(images), images.shape[-2:]
        return self._labels(folded, size), self._probabilities(folded, size)

    def _labels(self, folded: Tensor, size: torch.Size) -> Tensor:
        if self.cell == 1:
            labels = self._unfolded(most_probable(folded).unsqueeze(1))
            return _cropped(labels, *size)[:, 0].contiguous()
        scores = self._unfolded(folded).float()
        if self.resize_probabilities:
            scores = scores.softmax(1)
        return most_probable(self._at_image_size(scores, size))

    def _probabilities(self, folded: Tensor, size: torch.Size) -> Tensor:
        scores = self._unfolded(folded).float()
        if self.resize_probabilities:
            return self._at_image_size(scores.softmax(1), size)
        return self._at_image_size(scores, size).softmax(1)

    def _unfolded(self, folded: Tensor) -> Tensor:
        """As `unfold`, with the factor as a constant of the graph."""
        return folded[:, :, 0] if self.factor == 1 else shuffled(folded.flatten(1, 2), self.factor)

    def _at_image_size(self, maps: Tensor, size: torch.Size) -> Tensor:
        """(N, L, ., .) with one place a cell, over the padded image, to (N, L, H, W)."""
        height, width = size
        # Cropping first keeps predictions that lie wholly in the padding out of the resize, as the authors' test does.
        maps = _cropped(maps, (height + self.cell - 1) // self.cell, (width + self.cell - 1) // self.cell)
        if self.cell > 1:
            maps = F.interpolate(maps, scale_factor=self.cell, mode="bilinear", align_corners=False)
        return _cropped(maps, height, width)

    def freeze_batch_norm(self) -> None:
        """From now on batch norms use their running statistics and leave them, also after `train()`.

        Their weights and biases stay trainable, as in the released code (`use_global_stats`).
        """
        self.batch_norm_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`, but frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.batch_norm_frozen:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def check_kind(name: str, value: object, kind: type) -> None:
    """Raise `UserError` for an argument of another type than it is asked to be."""
    if not isinstance(value, kind):
        raise explain(
            name, found=f"{value!r}"[:80], needed=f"a {kind.__name__}", fix=f"Make one with {kind.__module__}."
        )


def _positive(part: object, name: str, fix: str) -> int:
    return whole(f"{name} of {type(part).__name__}", getattr(part, name, None), least=1, fix=fix)


def most_probable(scores: Tensor) -> Tensor:
    """Scores or probabilities (N, L, ...) to uint8 labels (N, ...): the first of the largest."""
    if in_a_graph():
        return scores.argmax(1).to(torch.uint8)
    return scores.max(1).indices.to(torch.uint8)  # 4 to 10 times as fast as argmax on a processor (torch 2.13)


def _cropped(maps: Tensor, height: int, width: int) -> Tensor:
    if torch.compiler.is_compiling():  # a slice would ask for a proof that it lies inside
        return F.pad(maps, (0, width - maps.shape[-1], 0, height - maps.shape[-2]))
    return maps[..., :height, :width]
