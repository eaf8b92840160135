"""Ablations: the paper's tables and questions of ours, as rows that are run, recorded and printed."""
