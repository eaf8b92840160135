"""The fully connected CRF that sharpens a network's probabilities at the image's edges (the paper's section 4.1).

`dense_crf` works on one picture, `DenseCRF` is a layer for batches, `CrfParams` holds the five parameters with the
paper's values as defaults, `load_params` and `save_params` their JSON file.
"""

from ducseg.crf.dense_crf import DenseCRF, dense_crf
from ducseg.crf.params import CrfParams, load_params, save_params

__all__ = ["CrfParams", "DenseCRF", "dense_crf", "load_params", "save_params"]
