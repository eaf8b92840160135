"""Networks: encoders with a dilation rate per block, heads, and the segmenter that joins them with all they need."""

from ducseg.models.architecture import ENCODERS, Architecture
from ducseg.models.build import build, build_architecture, generic_classes
from ducseg.models.heads import COMPARISONS, HEADS, head_parameters
from ducseg.models.preprocessing import IMAGENET, Preprocessing
from ducseg.models.segmenter import Segmenter

__all__ = [
    "COMPARISONS",
    "ENCODERS",
    "HEADS",
    "IMAGENET",
    "Architecture",
    "Preprocessing",
    "Segmenter",
    "build",
    "build_architecture",
    "generic_classes",
    "head_parameters",
]
