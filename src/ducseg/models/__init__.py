"""Encoders, heads and the segmenter that joins them."""
