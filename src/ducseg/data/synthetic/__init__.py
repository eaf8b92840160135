"""Drawn scenes and the three benchmarks' fake data."""
