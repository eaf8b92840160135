"""Networks: encoders with a dilation rate per block, heads, and the segmenter that joins them with all they need."""

from ducseg.models.build import ENCODERS, build, generic_classes
from ducseg.models.heads import HEADS, head_parameters
from ducseg.models.preprocessing import IMAGENET, Preprocessing
from ducseg.models.segmenter import Segmenter

__all__ = ["ENCODERS", "HEADS", "IMAGENET", "Preprocessing", "Segmenter", "build", "generic_classes", "head_parameters"]
