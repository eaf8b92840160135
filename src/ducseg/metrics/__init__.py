"""Scores: counts in int64, one division."""
