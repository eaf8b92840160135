"""Procedural street scenes: camera and canvas, the street, what stands on it."""
