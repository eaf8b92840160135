"""Hybrid dilated convolution under one name: the paper's rates, what they cover, and how any module takes them."""

from ducseg.ops.coverage import Check, check, coverage, max_gaps, report, search
from ducseg.ops.dilate import set_dilations
from ducseg.ops.schedules import SCHEDULES, schedule

__all__ = ["SCHEDULES", "Check", "check", "coverage", "max_gaps", "report", "schedule", "search", "set_dilations"]
