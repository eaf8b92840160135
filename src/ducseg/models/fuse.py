"""Batch norms folded into the convolutions before them, for inference."""

import copy
import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ducseg.models.segmenter import Segmenter
from ducseg.models.timm_encoder import TimmEncoder

__all__ = ["fuse_batch_norm"]


@torch.no_grad()
def fuse_batch_norm(segmenter: Segmenter) -> Segmenter:
    """A copy in evaluation mode whose batch norms, with their running statistics, are part of the convolutions.

    The copy computes what `segmenter.eval()` computes, to rounding, with fewer passes over memory. It can be neither
    trained nor saved as a checkpoint; keep the original for that. A timm encoder stays as it is: its order of modules
    does not tell which convolution a batch norm follows.
    """
    fused = copy.deepcopy(segmenter).eval()
    fused.batch_norm_fused = True
    if isinstance(fused.encoder, TimmEncoder):
        return fused
    # In our encoders each batch norm is registered right behind its convolution.
    leaves = [(name, module) for name, module in fused.named_modules() if not any(module.children())]
    for (conv_name, conv), (norm_name, norm) in itertools.pairwise(leaves):
        if isinstance(norm, nn.BatchNorm2d):
            assert isinstance(conv, nn.Conv2d) and conv.out_channels == norm.num_features, (conv_name, norm_name)
            fused.set_submodule(conv_name, fuse_conv_bn_eval(conv, norm))
            fused.set_submodule(norm_name, nn.Identity())
    return fused
