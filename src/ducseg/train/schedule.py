"""The poly learning rate (paper section 4.1, after DeepLab)."""

__all__ = ["poly_learning_rate"]


def poly_learning_rate(step: int, *, initial: float, num_steps: int, power: float) -> float:
    """The rate of optimizer step `step` (0-based) of `num_steps`: initial * (1 - step / num_steps) ** power.

    >>> poly_learning_rate(0, initial=0.1, num_steps=100, power=0.9)
    0.1
    """
    assert 0 <= step < num_steps, (step, num_steps)
    return float(initial * (1.0 - step / num_steps) ** power)
