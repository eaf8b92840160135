"""Which stride each stage keeps and which dilation rate each block has, for a wanted output stride.

The rule, the same for every encoder. Stages are called by the paper's names res2, res3, res4, res5 (at strides 4, 8,
16, 32 of the undilated network). A smaller output stride removes the stride of the last stages. A named schedule has
two columns; the rates apply to the blocks of stages that lost their stride, all others have rate 1:

- output stride 8: res4 takes the res4 column (where plain dilation is 2), res5 the res5 column (plain dilation 4);
- output stride 16: only res5 lost its stride, so plain dilation there is 2: res5 takes the *res4* column, made for its
  own number of blocks;
- output stride 4 (the paper's ablation, "stride of res3 also removed"): res4 and res5 as at stride 8, and res3 has
  rate 2 (1 with the schedule "none"). The paper does not say whether it doubled the others; explicit rates can;
- output stride 32: nothing is dilated.

Explicit rates are applied as given, whatever the strides, one rate a block: (res4, res5) or (res3, res4, res5). As
text, for the command line, they have a slash between stages: "1,2,5,9,1,2/5,9,17".
"""

import re
from collections.abc import Sequence

from ducseg.ops.schedules import SCHEDULES, schedule

__all__ = ["OUTPUT_STRIDES", "Dilation", "Rates", "dilation_conflicts", "read_rates", "stage_rates"]

Rates = tuple[tuple[int, ...], ...]
"""One rate a block, one tuple a stage res2..res5."""

Dilation = str | Sequence[Sequence[int]]
"""The name of a schedule, or rates for (res4, res5) or (res3, res4, res5), as text too."""

MAX_RATE = 1024
"""In places of the grid: beyond any picture."""

OUTPUT_STRIDES: dict[int, tuple[int, int, int]] = {32: (2, 2, 2), 16: (2, 2, 1), 8: (2, 1, 1), 4: (1, 1, 1)}
"""Strides of res3, res4 and res5 for each output stride."""

_RATES_AS_TEXT = re.compile(r"\d{1,9}([,/]\d{1,9})*", re.ASCII)


def read_rates(text: str) -> Dilation:
    """Rates of text, ((1, 2, 5), (5, 9)) of "1,2,5/5,9"; other text, such as a schedule's name, as it is."""
    if not _RATES_AS_TEXT.fullmatch(text):
        return text
    return tuple(tuple(map(int, stage.split(","))) for stage in text.split("/"))


def dilation_conflicts(dilation: Dilation, output_stride: int, blocks: Sequence[int]) -> list[str]:
    """What is wrong with a dilation for an encoder with `blocks` blocks in res2..res5; empty if nothing."""
    if isinstance(dilation, str):
        if dilation not in SCHEDULES:
            shown = f"a rate a block, res4/res5, as 1,2,5,9,1,2/5,9,17 ({blocks[2]} and {blocks[3]} blocks here)"
            return [f"dilation={dilation!r} is not one of {', '.join(SCHEDULES)}, nor {shown}"]
        if output_stride == 32 and dilation != "none":
            return [
                f"output_stride=32 leaves no stage to dilate, so dilation={dilation!r} would do nothing: use 'none'"
            ]
        if output_stride == 16 and not blocks[3] and dilation != "none":
            return [f"output_stride=16 dilates res5, which has no convolution here: dilation={dilation!r}, use 'none'"]
        return []
    given, shown = dilation, f"dilation={str(dilation)[:60]}"
    if not isinstance(dilation, Sequence) or not all(isinstance(stage, Sequence) for stage in dilation):
        return [f"{shown} is neither the name of a schedule nor one tuple of rates a stage"]
    if any(type(rate) is not int for stage in given for rate in stage):
        return [f"{shown} has rates that are no whole numbers"]
    if len(dilation) not in (2, 3):
        return [f"dilation has rates for {len(dilation)} stages where (res4, res5) or (res3, res4, res5) is needed"]
    wanted = blocks[-len(dilation) :]
    conflicts = []
    for name, rates, count in zip(("res3", "res4", "res5")[-len(given) :], given, wanted):
        if len(rates) != count:
            conflicts.append(f"dilation of {name} has {len(rates)} rates for {count} blocks")
        if any(rate < 1 for rate in rates):
            conflicts.append(f"dilation of {name} has a rate below 1: {tuple(rates)}")
        if any(rate > MAX_RATE for rate in rates):
            conflicts.append(f"dilation of {name} has a rate above {MAX_RATE}: {tuple(rates)}")
    return conflicts


def stage_rates(dilation: Dilation, output_stride: int, blocks: Sequence[int]) -> Rates:
    """The dilation rate of every block of res2..res5, by the rule at the top of this module.

    Args:
        dilation: a schedule's name, or explicit rates.
        output_stride: 32, 16, 8 or 4.
        blocks: number of blocks in res2, res3, res4, res5.
    """
    assert not dilation_conflicts(dilation, output_stride, blocks), "build() reports these"
    plain = [(1,) * count for count in blocks]
    if not isinstance(dilation, str):
        explicit = [tuple(rates) for rates in dilation]
        return (*plain[: len(blocks) - len(explicit)], *explicit)
    if output_stride == 32:
        return tuple(plain)
    if output_stride == 16:
        return (*plain[:3], schedule(dilation, blocks[3], blocks[3])[0] if blocks[3] else ())
    res4, res5 = schedule(dilation, blocks[2], blocks[3] or 1)
    res3 = (2,) * blocks[1] if output_stride == 4 and dilation != "none" else plain[1]
    return (plain[0], res3, tuple(res4), tuple(res5[: blocks[3]]))
