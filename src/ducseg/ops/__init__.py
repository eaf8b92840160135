"""The paper itself: DUC, HDC and receptive fields, in plain torch, for anyone's network."""

from ducseg.ops.coverage import Check, check, coverage, max_gaps, report, search
from ducseg.ops.dilate import set_dilations, strides_to_dilations
from ducseg.ops.duc import DenseUpsampling, downsample_labels, fold_labels, unfold
from ducseg.ops.receptive_field import layers_of, measured, receptive_field_increase, theoretical
from ducseg.ops.schedules import SCHEDULES, schedule

__all__ = [
    "SCHEDULES",
    "Check",
    "DenseUpsampling",
    "check",
    "coverage",
    "downsample_labels",
    "fold_labels",
    "layers_of",
    "max_gaps",
    "measured",
    "receptive_field_increase",
    "report",
    "schedule",
    "search",
    "set_dilations",
    "strides_to_dilations",
    "theoretical",
    "unfold",
]
