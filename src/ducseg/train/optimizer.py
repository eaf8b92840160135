"""The optimizer and its parameter groups: which parameters decay, and how their rates stand to each other."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from ducseg.errors import explain, listed
from ducseg.models.encoder import NamedEncoder
from ducseg.models.segmenter import Segmenter
from ducseg.models.stages import parameters_by_stage
from ducseg.train.sections import OptimizerConfig

__all__ = ["head_factor", "is_within", "make_optimizer", "parameter_groups"]


def make_optimizer(network: Segmenter, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW whose beta_1 is the momentum (beta_2 0.999), over `parameter_groups`.

    Where torch has a kernel that takes one pass over the weights, it is used.
    """
    groups = parameter_groups(network, config)
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=fused)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=fused)


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

    Each group carries `rate_factor`, by which the schedule's rate is multiplied at every step. What is frozen is in no
    group.

    Raises:
        UserError: `frozen` names what the network does not have, or all of it.
    """
    groups: list[dict[str, object]] = []
    held = _frozen(network, config)
    biases = _convolution_biases(network) if config.bias_learning_rate_factor != 1 else set[int]()
    for part, factor in [
        *_encoder_parts(network, config),
        (list(network.head.parameters()), head_factor(network, config)),
    ]:
        free = [parameter for parameter in part if id(parameter) not in held]
        kernels = [parameter for parameter in free if parameter.ndim > 1]
        others = [parameter for parameter in free if parameter.ndim <= 1 and id(parameter) not in biases]
        faster = [parameter for parameter in free if id(parameter) in biases]
        for parameters, decay, times in (
            (kernels, config.weight_decay, 1.0),
            (others, 0.0, 1.0),
            (faster, 0.0, config.bias_learning_rate_factor),
        ):
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "rate_factor": factor * times})
    return groups


def is_within(name: str, parts: Sequence[str]) -> bool:
    """Whether a tensor or module is one of these parts or in one: "head.final.weight" is in "head" and "head.final"."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _frozen(network: Segmenter, config: OptimizerConfig) -> set[int]:
    """Ids of the parameters that `frozen` names; raises as `parameter_groups`."""
    named = dict(network.named_parameters())
    unknown = [part for part in config.frozen if not any(is_within(name, [part]) for name in named)]
    held = {id(parameter) for name, parameter in named.items() if is_within(name, config.frozen)}
    if unknown or len(held) == len(named):
        raise explain(
            "--optimizer.frozen",
            found=", ".join(unknown) or "everything",
            needed=f"beginnings of {listed(list(named), 4)}" if unknown else "something left to learn",
            fix="Name parts as their tensors are named: encoder, head.classifier.",
        )
    return held


def _convolution_biases(network: Segmenter) -> set[int]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return {id(module.bias) for module in network.modules() if isinstance(module, kinds) and module.bias is not None}


def _encoder_parts(network: Segmenter, config: OptimizerConfig) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters with the factor of their rate."""
    factor = config.encoder_learning_rate_factor
    if config.layer_decay == 1:
        return [(list(network.encoder.parameters()), factor)]
    stages = parameters_by_stage(cast(NamedEncoder, network.encoder)).values()
    return [(part, factor * config.layer_decay**depth) for depth, part in zip(reversed(range(len(stages))), stages)]
