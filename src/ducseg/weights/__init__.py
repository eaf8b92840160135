"""Checkpoint folders, and weights from where people have them."""
