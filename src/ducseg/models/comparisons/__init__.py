"""The systems that the paper's tables 4 and 6 stand beside: one file each, with its authors' words and shapes.

`ducseg.models.build(encoder=..., head=NAME)` makes each of them whole; `ducseg.models.COMPARISONS` has the names.
"""

from ducseg.models.comparisons.adelaide import Adelaide
from ducseg.models.comparisons.deeplabv2 import DeepLabV2
from ducseg.models.comparisons.dilation10 import ContextModule, Dilation
from ducseg.models.comparisons.fcn8s import Fcn
from ducseg.models.comparisons.gcrf import Gcrf, gaussian_field
from ducseg.models.comparisons.lrr4x import Lrr

__all__ = ["Adelaide", "ContextModule", "DeepLabV2", "Dilation", "Fcn", "Gcrf", "Lrr", "gaussian_field"]
