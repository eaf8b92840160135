"""Prediction of files and arrays with a trained segmenter."""
