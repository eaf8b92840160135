"""Checkpoint folders, and weights from where people have them."""

from ducseg.weights.checkpoint import load_segmenter, save_segmenter

__all__ = ["load_segmenter", "save_segmenter"]
