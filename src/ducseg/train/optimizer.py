"""The optimizer and its parameter groups: which parameters decay, and how their rates stand to each other."""

from typing import cast

import torch
from torch import nn

from ducseg.models.encoder import NamedEncoder
from ducseg.models.segmenter import Segmenter
from ducseg.models.stages import parameters_by_stage
from ducseg.train.sections import OptimizerConfig

__all__ = ["head_factor", "make_optimizer", "parameter_groups"]


def make_optimizer(network: Segmenter, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW whose beta_1 is the momentum (beta_2 0.999), over `parameter_groups`."""
    groups = parameter_groups(network, config)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def head_factor(network: Segmenter, config: OptimizerConfig) -> float:
    """How many times `learning_rate` the head's rate is.

    Each of DUC's r*r channel groups sees 1 / (r*r) of the pixels, so its gradient is that much smaller: under SGD the
    factor is r*r where none is stated. AdamW divides by the gradient's size itself: 1.
    """
    if config.head_learning_rate_factor is not None:
        return config.head_learning_rate_factor
    return float(network.factor**2) if config.name == "sgd" else 1.0


def parameter_groups(network: Segmenter, config: OptimizerConfig) -> list[dict[str, object]]:
    """Parameter groups: kernels decay, biases and norms do not; encoder and head have rates of their own.

    With `layer_decay` below 1 each stage of the encoder has one too: res5 the encoder's, every finer stage that of the
    next coarser one times `layer_decay`.

    Each group carries `rate_factor`, by which the schedule's rate is multiplied at every step.
    """
    groups: list[dict[str, object]] = []
    for part, factor in [
        *_encoder_parts(network, config),
        (list(network.head.parameters()), head_factor(network, config)),
    ]:
        kernels = [parameter for parameter in part if parameter.ndim > 1]
        others = [parameter for parameter in part if parameter.ndim <= 1]
        for parameters, decay in ((kernels, config.weight_decay), (others, 0.0)):
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "rate_factor": factor})
    return groups


def _encoder_parts(network: Segmenter, config: OptimizerConfig) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters with the factor of their rate."""
    factor = config.encoder_learning_rate_factor
    if config.layer_decay == 1:
        return [(list(network.encoder.parameters()), factor)]
    stages = parameters_by_stage(cast(NamedEncoder, network.encoder)).values()
    return [(part, factor * config.layer_decay**depth) for depth, part in zip(reversed(range(len(stages))), stages)]
