"""Experiments: one function per published row."""
