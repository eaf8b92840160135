"""Hybrid dilated convolution (paper section 3.2): equation 2, exact coverage, search.

A layer with kernel K and rate r reaches offsets r * {-(K-1)/2, ..., (K-1)/2} along each dimension. Stacked layers reach
all sums of one offset a layer, so the order of the layers does not matter for what is reached, and two dimensions are
the product of one with itself. A schedule *covers* if every offset of its receptive field is reached.

Equation 2's goal M_2 <= K is neither sufficient nor necessary for that:

- [2, 2, 2] has M_2 = 2 and misses every odd offset; [2, 3] has M_2 = 3, no common factor, and misses +-4;
- [9, 3, 1] has M_2 = 5 and covers, as [1, 3, 9] does, whose M_2 is 3.

So `check` says `ok` by coverage, and reports equation 2 beside it.
"""

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain

__all__ = ["MAX_SCHEDULES", "Check", "check", "coverage", "max_gaps", "report", "search", "whole_rates"]


def max_gaps(rates: Sequence[int], kernel_size: int = 3) -> list[int]:
    """Equation 2: [M_1, ..., M_n], the largest distance between two non-zero values; the goal is M_2 <= K.

    M_n = r_n, M_i = max(M_{i+1} - 2 r_i, M_{i+1} - 2 (M_{i+1} - r_i), r_i). The formula itself does not contain K.

    Raises:
        UserError: no rate, one below 1, or a kernel below 2.
    """
    rates = whole_rates(rates, kernel_size)
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
        UserError: as `max_gaps`; counts that do not fit 64 bits (20 layers of 3x3), or a field beyond 8192 x 8192:
            `check` still answers then.
    """
    rates = whole_rates(rates, kernel_size)
    side = 1 + (kernel_size - 1) * sum(rates)
    if side > _WIDEST:
        raise explain(
            "coverage",
            found=f"a receptive field of {side}x{side}",
            needed=f"at most {_WIDEST}x{_WIDEST} places",
            fix="Use check(), which needs no counts, or smaller rates.",
        )
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
    rates = whole_rates(rates, kernel_size)
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

_MAX_LAYERS = 64


def search(num_layers: int, kernel_size: int = 3, receptive_field: int | None = None) -> list[tuple[int, ...]]:
    """All schedules of `num_layers` layers that cover, as non-decreasing rates.

    Complete, since order does not matter and rates r_1 <= ... <= r_n cover exactly if each
    r_k <= 1 + (K - 1) * (r_1 + ... + r_{k-1}): an offset t from the edge of the field that is smaller than r_k can use
    the first k - 1 layers only. So r_1 = 1 and the largest field is K^n.

    Args:
        receptive_field: None for all, the largest receptive field first; a side in pixels for those of the smallest
            field that reaches it. In both, among equal fields the one whose largest rate is smallest comes first.

    Raises:
        UserError: a number below 1, more than 64 layers, a field beyond K^n, more than 200,000 schedules.
    """
    (num_layers,) = whole_rates([num_layers], kernel_size)
    if num_layers > _MAX_LAYERS:
        raise explain(
            "search", found=f"{num_layers} layers", needed=f"at most {_MAX_LAYERS}", fix="Repeat a shorter group."
        )
    step, total = kernel_size - 1, None
    if receptive_field is not None:
        if not 1 <= receptive_field <= kernel_size**num_layers:
            raise explain(
                "receptive field",
                found=receptive_field,
                needed=f"1 to {kernel_size}^{num_layers} = {kernel_size**num_layers} pixels",
                fix="More layers or larger kernels reach farther.",
            )
        total = max(num_layers, -(-(receptive_field - 1) // step))
    found = list(islice(_schedules(num_layers, step, total), MAX_SCHEDULES + 1))
    if len(found) > MAX_SCHEDULES:
        raise explain(
            "search",
            found=f"more than {MAX_SCHEDULES} schedules of {num_layers} layers with kernel {kernel_size}",
            needed="fewer",
            fix="Give receptive_field, or search fewer layers and repeat the group, as the paper does.",
        )
    return sorted(found, key=lambda rates: (-sum(rates), *_evenness(rates)))


def _evenness(rates: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    return rates[-1], rates


def _schedules(num_layers: int, step: int, total: int | None) -> Iterator[tuple[int, ...]]:
    """Every non-decreasing schedule that covers, and sums to `total` if one is given; no branch ends without one."""
    rates: list[int] = []
    choices = [iter((1,))]
    while choices:
        rate = next(choices[-1], None)
        if rate is None:
            choices.pop()
            if rates:
                rates.pop()
        elif len(rates) + 1 == num_layers:
            if total is None or sum(rates) + rate == total:
                yield (*rates, rate)
        else:
            rates.append(rate)
            choices.append(_choices(num_layers - len(rates), total, rate, sum(rates), step))


def _choices(left: int, total: int | None, last: int, sofar: int, step: int) -> Iterator[int]:
    """The next rate after rates that sum to `sofar`, with `left` still to come."""
    for rate in range(last, 1 + step * sofar + 1):
        if total is not None:
            rest = total - sofar - rate
            if rest < (left - 1) * rate:
                return
            if rest > _largest_rest(left - 1, sofar + rate, step):
                continue
        yield rate


def _largest_rest(left: int, sofar: int, step: int) -> int:
    """The largest sum of `left` more rates after a sum of `sofar`: each as large as coverage allows."""
    total = sofar
    for _ in range(left):
        total += 1 + step * total
    return total - sofar


def report(rates: Sequence[int], kernel_size: int = 3) -> str:
    """The verdict of `check` in words, for people.

    Raises:
        UserError: as `max_gaps`.
    """
    rates = whole_rates(rates, kernel_size)
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
    best = min(islice(_schedules(num_layers, step, total), 10_000), key=_evenness)
    shown = ", ".join(map(str, best))
    return f"without holes, {num_layers} layers: {shown} (receptive field {1 + step * total})"


_WIDEST = 8192  # 512 MiB of counts
_LARGEST_RATE = 1_000_000  # wider than any picture


def whole_rates(rates: Sequence[int], kernel_size: int = 3) -> tuple[int, ...]:
    """The rates as Python's integers, of whatever kind they are; `UserError` where one is none, or below 1."""
    try:
        found = tuple(operator.index(rate) for rate in rates)
    except TypeError:
        found = ()
    if len(found) == 0 or not 1 <= min(found) <= max(found) <= _LARGEST_RATE:
        needed = f"one or more whole rates of at least 1, at most {_LARGEST_RATE:,}"
        raise explain("dilation rates", found=rates, needed=needed, fix="Example: 1 2 5 9.")
    if kernel_size < 2:
        raise explain("kernel size", found=kernel_size, needed="at least 2", fix="The paper's kernels are 3x3.")
    return found
