"""The paper's dilation rates (section 3.2, Table 2), for any number of blocks."""

from dataclasses import dataclass
from itertools import cycle, islice

from ducseg.errors import explain

__all__ = ["SCHEDULES", "schedule"]


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
