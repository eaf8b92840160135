"""The paper itself: DUC, HDC and receptive fields, in plain torch, for anyone's network."""

from ducseg.ops.coverage import Check, check, coverage, max_gaps, report, search
from ducseg.ops.dilate import set_dilations, strides_to_dilations
from ducseg.ops.duc import DenseUpsampling, downsample_labels, fold_labels, unfold
from ducseg.ops.network_coverage import dilated_layers, network_coverage
from ducseg.ops.receptive_field import effective, layers_of, measured, paths, receptive_field_increase, theoretical
from ducseg.ops.schedules import SCHEDULES, schedule

__all__ = [
    "SCHEDULES",
    "Check",
    "DenseUpsampling",
    "check",
    "coverage",
    "dilated_layers",
    "downsample_labels",
    "effective",
    "fold_labels",
    "layers_of",
    "max_gaps",
    "measured",
    "network_coverage",
    "paths",
    "receptive_field_increase",
    "report",
    "schedule",
    "search",
    "set_dilations",
    "strides_to_dilations",
    "theoretical",
    "unfold",
]
