"""Prediction and scoring of pictures, arrays and files, with a trained segmenter."""
