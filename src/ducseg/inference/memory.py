"""What memory a picture takes whole, by a formula."""

from ducseg.inference.labeller import AveragingLabeller, Labeller

__all__ = ["memory_needed"]

_A_PIXEL, _A_CLASS = 600, 12
"""Bytes that a pixel takes, and each class at it. Measured for whole pictures: ResNet-18-DUC 300 (labels) and 390
(probabilities) in all with 19 classes, 1450 with 150; deeper networks have wider maps."""


def memory_needed(labeller: Labeller, size: tuple[int, int]) -> int:
    """Bytes that a picture takes whole, roughly: H W s^2 (600 + 12 L), L classes, s the largest scale above 1."""
    scale = max(1.0, *labeller.scales) if isinstance(labeller, AveragingLabeller) else 1.0
    return round(size[0] * size[1] * scale**2 * (_A_PIXEL + _A_CLASS * len(labeller.classes)))
