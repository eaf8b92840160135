"""The learning rate over a run: poly (paper section 4.1, after DeepLab), cosine or constant, after a linear warm-up."""

import math

from ducseg.train.sections import OptimizerConfig

__all__ = ["learning_rate", "poly_learning_rate"]


def learning_rate(step: int, config: OptimizerConfig, *, num_steps: int) -> float:
    """The rate of optimizer step `step` (0-based) of `num_steps`.

    poly: learning_rate * (1 - step / num_steps) ** power; cosine: learning_rate * (1 + cos(pi * step / num_steps)) / 2;
    constant: learning_rate; during the first `warmup_steps` also times (step + 1) / warmup_steps.
    """
    if config.schedule == "constant":
        rate = config.learning_rate
    elif config.schedule == "cosine":
        rate = config.learning_rate * (1 + math.cos(math.pi * step / num_steps)) / 2
    else:
        rate = poly_learning_rate(step, initial=config.learning_rate, num_steps=num_steps, power=config.power)
    return rate * min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else rate


def poly_learning_rate(step: int, *, initial: float, num_steps: int, power: float) -> float:
    """The rate of optimizer step `step` (0-based) of `num_steps`: initial * (1 - step / num_steps) ** power.

    >>> poly_learning_rate(0, initial=0.1, num_steps=100, power=0.9)
    0.1
    """
    assert 0 <= step < num_steps, (step, num_steps)
    return float(initial * (1.0 - step / num_steps) ** power)
