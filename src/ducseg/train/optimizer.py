"""The optimizer and its parameter groups."""

import torch

from ducseg.models.segmenter import Segmenter
from ducseg.train.sections import OptimizerConfig

__all__ = ["make_optimizer", "parameter_groups"]


def make_optimizer(network: Segmenter, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum over `parameter_groups`."""
    return torch.optim.SGD(parameter_groups(network, config), lr=config.learning_rate, momentum=config.momentum)


def parameter_groups(segmenter: Segmenter, config: OptimizerConfig) -> list[dict[str, object]]:
    """Parameter groups: kernels decay, biases and norms do not; the head's rate has its own factor.

    Each group carries `rate_factor`, by which the schedule's rate is multiplied at every step.
    """
    groups: list[dict[str, object]] = []
    for part, factor in ((segmenter.encoder, 1.0), (segmenter.head, config.head_learning_rate_factor)):
        kernels = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in part.parameters() if parameter.ndim <= 1]
        for parameters, decay in ((kernels, config.weight_decay), (others, 0.0)):
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "rate_factor": factor})
    return groups
