"""Hybrid dilated convolution (paper section 3.2): schedules, equation 2, exact coverage, search.

A layer with kernel K and rate r reaches offsets r * {-(K-1)/2, ..., (K-1)/2} along each dimension. Stacked layers reach
all sums of one offset a layer, so the order of the layers does not matter for what is reached, and two dimensions are
the product of one with itself. A schedule *covers* if every offset of its receptive field is reached.

Equation 2's goal M_2 <= K is neither sufficient nor necessary for that:
- [2, 2, 2] has M_2 = 2 and misses every odd offset; [2, 3] has M_2 = 3, no common factor, and misses +-4;
- [9, 3, 1] has M_2 = 5 and covers, as [1, 3, 9] does, whose M_2 is 3.
So `check` says `ok` by coverage, and reports equation 2 beside it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ducseg.errors import UserError, explain

__all__ = ["SCHEDULES", "Check", "check", "coverage", "max_gaps", "report", "schedule", "search", "set_dilations"]


@dataclass(frozen=True)
class _Sawtooth:
    """A group of rates repeated, what stands in place of an unfinished last group, and in place of the first rate."""

    group: tuple[int, ...]
    ending: tuple[int, ...] | None = None
    first: int | None = None

    def rates(self, count: int) -> tuple[int, ...]:
        full, rest = divmod(count, len(self.group))
        tail = self.group if self.ending is None else self.ending
        rates = [*self.group * full, *islice(cycle(tail), rest)]
        if self.first is not None:
            rates[0] = self.first
        return tuple(rates)


# The rule for every depth: the group is repeated as often as it fits, and what is left over ends as the table ends for
# ResNet-101 (23 and 3 blocks): "rf" with 2s, the others with the beginning of their group.
SCHEDULES: dict[str, tuple[_Sawtooth, _Sawtooth]] = {
    "none": (_Sawtooth((1,)), _Sawtooth((1,))),
    "dilated": (_Sawtooth((2,)), _Sawtooth((4,))),
    "conv": (_Sawtooth((2, 1)), _Sawtooth((2, 1))),
    "rf": (_Sawtooth((1, 2, 3), ending=(2,)), _Sawtooth((3, 4, 5))),
    "bigger": (_Sawtooth((1, 2, 5, 9)), _Sawtooth((5, 9, 17))),
    "released": (_Sawtooth((1, 2, 5, 9), first=2), _Sawtooth((5, 9, 17))),
}
"""Rates of res4 and res5 (PROTOCOL section 2): the paper's Table 2, and the released network.

"conv" takes the text at its word, "r = 2 for the first block, and r = 1 for the second", in res5 too: 2, 1, 2.
"""


def schedule(name: str, num_blocks_res4: int, num_blocks_res5: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One dilation rate for each block of res4 and of res5.

    Args:
        name: none, dilated, conv, rf, bigger or released.
        num_blocks_res4, num_blocks_res5: 23 and 3 for ResNet-101, 36 and 3 for ResNet-152, 6 and 3, or 2 and 2.

    Raises:
        UserError: no such schedule, or a stage without blocks.
    """
    if name not in SCHEDULES:
        raise explain("dilation schedule", found=repr(name), needed=f"one of {', '.join(SCHEDULES)}", fix="Correct it.")
    if min(num_blocks_res4, num_blocks_res5) < 1:
        raise explain(
            "dilation schedule",
            found=f"{num_blocks_res4} and {num_blocks_res5} blocks",
            needed="at least one a stage",
            fix="Give the encoder's number of blocks in res4 and res5.",
        )
    res4, res5 = SCHEDULES[name]
    return res4.rates(num_blocks_res4), res5.rates(num_blocks_res5)


def max_gaps(rates: Sequence[int], kernel_size: int = 3) -> list[int]:
    """Equation 2: [M_1, ..., M_n], the largest distance between two non-zero values; the goal is M_2 <= K.

    M_n = r_n, M_i = max(M_{i+1} - 2 r_i, M_{i+1} - 2 (M_{i+1} - r_i), r_i). The formula itself does not contain K.

    Raises:
        UserError: no rate, one below 1, or a kernel below 2.
    """
    _check_rates(rates, kernel_size)
    gaps = [rates[-1]]
    for rate in reversed(rates[:-1]):
        after = gaps[0]
        gaps.insert(0, max(after - 2 * rate, after - 2 * (after - rate), rate))
    return gaps


def coverage(rates: Sequence[int], kernel_size: int = 3) -> NDArray[np.int64]:
    """How many paths through the layers lead from each offset of the receptive field to the centre.

    Returns:
        int64 (RF, RF) with RF = 1 + (K - 1) * sum(rates); a 0 is a hole.

    Raises:
        UserError: as `max_gaps`; counts that do not fit 64 bits (20 layers of 3x3): `check` still answers then.
    """
    _check_rates(rates, kernel_size)
    if kernel_size ** (2 * len(rates)) >= 2**63:
        raise explain(
            "coverage",
            found=f"{len(rates)} layers with {kernel_size}x{kernel_size} kernels",
            needed="at most 2^63 paths",
            fix="Use check(), which needs no counts, or a part of the schedule.",
        )
    paths = np.ones(1, np.int64)
    for rate in rates:
        kernel = np.zeros(1 + (kernel_size - 1) * rate, np.int64)
        kernel[::rate] = 1
        paths = np.convolve(paths, kernel)
    return np.outer(paths, paths)


@dataclass(frozen=True, kw_only=True)
class Check:
    """What `check` found.

    Attributes:
        ok: every offset of the receptive field is reached.
        gaps: M_1 .. M_n of equation 2.
        equation_2: whether M_2 <= K (for one layer: M_1 <= K).
        gcd: greatest common divisor of the rates; above 1 the top layer sees a grid of that pitch.
        covered_fraction: reached share of the receptive field's pixels, in two dimensions.
        holes: number of its pixels that are not reached.
        receptive_field: side in pixels.
    """

    ok: bool
    gaps: list[int]
    equation_2: bool
    gcd: int
    covered_fraction: float
    holes: int
    receptive_field: int


def check(rates: Sequence[int], kernel_size: int = 3) -> Check:
    """Judge a schedule: exact coverage, equation 2, common factor, receptive field.

    Raises:
        UserError: as `max_gaps`.
    """
    gaps = max_gaps(rates, kernel_size)
    reached = np.ones(1, bool)
    for rate in rates:
        wider = np.zeros(len(reached) + (kernel_size - 1) * rate, bool)
        for tap in range(kernel_size):
            wider[tap * rate : tap * rate + len(reached)] |= reached
        reached = wider
    side, covered = len(reached), int(reached.sum())
    return Check(
        ok=covered == side,
        gaps=gaps,
        equation_2=gaps[min(1, len(gaps) - 1)] <= kernel_size,
        gcd=math.gcd(*rates),
        covered_fraction=covered**2 / side**2,
        holes=side**2 - covered**2,
        receptive_field=side,
    )


MAX_SCHEDULES = 200_000
"""The longest list that `search` makes."""


def search(num_layers: int, kernel_size: int = 3, receptive_field: int | None = None) -> list[tuple[int, ...]]:
    """All schedules of `num_layers` layers that cover, as non-decreasing rates.

    Complete, since order does not matter and rates r_1 <= ... <= r_n cover exactly if each
    r_k <= 1 + (K - 1) * (r_1 + ... + r_{k-1}): an offset t from the edge of the field that is smaller than r_k can use
    the first k - 1 layers only. So r_1 = 1 and the largest field is K^n.

    Args:
        receptive_field: None for all, the largest receptive field first; a side in pixels for those of the smallest
            field that reaches it. In both, among equal fields the one whose largest rate is smallest comes first.

    Raises:
        UserError: a number below 1, a field beyond K^n, more than 200,000 schedules.
    """
    _check_rates([num_layers], kernel_size)
    step = kernel_size - 1
    if receptive_field is None:
        if kernel_size**num_layers > 700:  # six layers of 3x3: millions
            raise _too_many(num_layers, kernel_size)
        totals = range((kernel_size**num_layers - 1) // step, num_layers - 1, -1)
    else:
        if not 1 <= receptive_field <= kernel_size**num_layers:
            raise explain(
                "receptive field",
                found=receptive_field,
                needed=f"1 to {kernel_size}^{num_layers} = {kernel_size**num_layers} pixels",
                fix="More layers or larger kernels reach farther.",
            )
        least = max(num_layers, -(-(receptive_field - 1) // step))
        totals = range(least, least + 1)
    found = [one for total in totals for one in sorted(_some(total, num_layers, step), key=_evenness)]
    if len(found) > MAX_SCHEDULES:
        raise _too_many(num_layers, kernel_size)
    return found


def _some(total: int, num_layers: int, step: int) -> Iterator[tuple[int, ...]]:
    return islice(_extend((), total, num_layers, step), MAX_SCHEDULES + 1)


def _too_many(num_layers: int, kernel_size: int) -> UserError:
    return explain(
        "search",
        found=f"more than {MAX_SCHEDULES} schedules of {num_layers} layers with {kernel_size}x{kernel_size} kernels",
        needed="fewer",
        fix="Give receptive_field, or search fewer layers and repeat the group, as the paper does.",
    )


def _evenness(rates: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return rates[-1], rates


def _extend(rates: tuple[int, ...], total: int, num_layers: int, step: int) -> Iterator[tuple[int, ...]]:
    """Every way to go on from `rates` to `num_layers` non-decreasing rates that cover and sum to `total`."""
    left, sofar = num_layers - len(rates), sum(rates)
    if left == 0:
        yield rates
        return
    for rate in _choices(left, total, rates[-1] if rates else 1, sofar, step):
        yield from _extend((*rates, rate), total, num_layers, step)


def _choices(left: int, total: int, last: int, sofar: int, step: int) -> Iterator[int]:
    for rate in range(last, 1 + step * sofar + 1):
        rest = total - sofar - rate
        if rest < (left - 1) * rate:
            return
        if rest <= _largest_rest(left - 1, sofar + rate, step):
            yield rate


def _largest_rest(left: int, sofar: int, step: int) -> int:
    """The largest sum of `left` more rates after a sum of `sofar`: each as large as coverage allows."""
    total = sofar
    for _ in range(left):
        total += 1 + step * total
    return total - sofar


def set_dilations(module: nn.Module, rates: Sequence[int]) -> list[str]:
    """Give the convolutions of any module their dilation rates, in the order of `module.modules()`.

    Convolutions with a kernel above 1 count (1-d to 3-d; not transposed ones). Padding changes by what the dilated
    kernel grows, so every output keeps its size; weights stay.

    Args:
        module: changed in place.
        rates: one a convolution.

    Returns:
        The names of the convolutions, in the order of their rates.

    Raises:
        UserError: another number of rates than convolutions (their names are given), a rate below 1, or an even kernel,
            which cannot be padded evenly. Nothing is changed then.
    """
    _check_rates(rates, 3)
    found = {
        name: child
        for name, child in module.named_modules()
        if isinstance(child, _ConvNd) and not isinstance(child, _ConvTransposeNd) and max(child.kernel_size) > 1
    }
    if len(found) != len(rates):
        raise explain(
            "set_dilations",
            found=f"{len(rates)} rates for {len(found)} convolutions ({', '.join(found) or 'none'})",
            needed="one a convolution whose kernel is above 1",
            fix="Pass a part of the network, or the missing rates.",
        )
    even = [name for name, conv in found.items() if any(side % 2 == 0 for side in conv.kernel_size)]
    if even:
        raise explain("set_dilations", found=f"even kernels in {', '.join(even)}", needed="odd ones", fix="Skip them.")
    for conv, rate in zip(found.values(), rates):
        _dilate(conv, rate)
    return list(found)


def _dilate(conv: _ConvNd, rate: int) -> None:
    old = conv.dilation
    conv.dilation = (rate,) * len(old)
    if conv.padding == "same":
        return
    padding = (0,) * len(old) if isinstance(conv.padding, str) else conv.padding
    sides = zip(padding, conv.kernel_size, old)
    conv.padding = tuple(pad + (rate - before) * (kernel - 1) // 2 for pad, kernel, before in sides)
    # what padding modes other than zeros read: both sides of each dimension, last dimension first
    conv._reversed_padding_repeated_twice = [pad for pad in reversed(conv.padding) for _ in range(2)]


def report(rates: Sequence[int], kernel_size: int = 3) -> str:
    """The verdict of `check` in words, for people.

    Raises:
        UserError: as `max_gaps`.
    """
    found = check(rates, kernel_size)
    gaps = ", ".join(f"M_{index + 1} = {gap}" for index, gap in enumerate(found.gaps))
    side = found.receptive_field
    lines = [
        f"rates {', '.join(map(str, rates))} with {kernel_size}x{kernel_size} kernels",
        f"  receptive field   {side} x {side} pixels",
        f"  covered           {found.covered_fraction:.1%} ({found.holes} of {side**2} pixels are holes)",
        f"  equation 2        {gaps}: the goal M_2 <= {kernel_size} is {'met' if found.equation_2 else 'missed'}",
        f"  common factor     {found.gcd if found.gcd > 1 else 'none'}",
        f"verdict: {'covers its receptive field, no gridding' if found.ok else 'leaves holes (gridding)'}",
    ]
    if not found.ok:
        lines.append(_way_out(len(rates), kernel_size, side))
    return "\n".join(lines)


def _way_out(num_layers: int, kernel_size: int, side: int) -> str:
    """The evenest schedule that covers at least this field with as many layers, or the farthest that they reach."""
    step = kernel_size - 1
    total = max(num_layers, min(-(-(side - 1) // step), (kernel_size**num_layers - 1) // step))
    best = min(islice(_extend((), total, num_layers, step), 10_000), key=_evenness)
    shown = ", ".join(map(str, best))
    return f"without holes, {num_layers} layers: {shown} (receptive field {1 + step * total})"


def _check_rates(rates: Sequence[int], kernel_size: int) -> None:
    if len(rates) == 0 or min(rates) < 1:
        raise explain(
            "dilation rates", found=list(rates), needed="one or more rates of at least 1", fix="Example: 1 2 5 9."
        )
    if kernel_size < 2:
        raise explain("kernel size", found=kernel_size, needed="at least 2", fix="The paper's kernels are 3x3.")
