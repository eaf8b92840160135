"""The range of each number in a configuration: stated in the field's type, checked in one place.

epochs: Annotated[int, Range(1)] = 20
crop_size: tuple[Annotated[int, Range(1)], Annotated[int, Range(1)]] = (544, 544)
"""

import math
import numbers
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = ["Range", "fits", "number_fields", "out_of_range"]


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, without the ends that `above` and `below` leave out."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value is finite and inside."""
        low = value > self.low if self.above else value >= self.low
        return math.isfinite(value) and low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = f"{'below' if self.below else 'at most'} {self.high:g}"
        ends = [end for end, there in ((low, self.low), (high, self.high)) if math.isfinite(there)]
        return " and ".join(ends) or "finite"


def number_fields(section: type) -> dict[str, tuple[Range | None, bool]]:
    """The fields of a dataclass that hold numbers: their range, and whether they are whole numbers only."""
    found = {}
    for name, hint in get_type_hints(section, include_extras=True).items():
        leaves = list(_leaves(hint, None))
        numbers_only = [(kind, stated) for kind, stated in leaves if kind in (int, float)]
        if numbers_only:
            stated = next((stated for _, stated in numbers_only if stated is not None), None)
            found[name] = stated, all(kind is int for kind, _ in numbers_only)
    return found


def out_of_range(name: str, section: Any) -> list[str]:
    """What is no number, or outside the range of its field: "--NAME.FIELD VALUE must be ..." for each such field."""
    known, found = number_fields(type(section)), []
    for field in fields(section):
        if field.name not in known:
            continue
        stated, whole = known[field.name]
        value = getattr(section, field.name)
        for number in _flat(value):
            kind = numbers.Integral if whole else numbers.Real
            if isinstance(number, bool) or not isinstance(number, kind) or not _holds(stated or Range(), number):
                shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
                what = "a whole number" if whole else "a number"
                flag = field.name.replace("_", "-")
                found.append(f"--{name}.{flag} {shown} must be {what} {stated or ''}".rstrip())
                break
    return found


def _holds(stated: Range, number: Any) -> bool:
    try:
        return stated.holds(float(number))
    except OverflowError:  # a whole number beyond all floats
        return False


def fits(value: Any, hint: Any) -> bool:
    """Whether a value that was read is of a field's type: of plain types, unions, tuples and literals."""
    kind, inside = get_origin(hint), get_args(hint)
    if kind is Annotated:
        return fits(value, inside[0])
    if kind in (Union, UnionType):
        return any(fits(value, one) for one in inside)
    if kind is Literal:
        return isinstance(value, str | int | None) and value in inside
    if kind is tuple:
        each = inside[:1] * len(value) if isinstance(value, tuple) and inside[-1] is ... else inside
        return isinstance(value, tuple) and len(value) == len(each) and all(map(fits, value, each))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _leaves(hint: Any, stated: Range | None) -> Iterator[tuple[Any, Range | None]]:
    """The plain types inside a type hint, each with the range stated around it."""
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        stated = next((note for note in notes if isinstance(note, Range)), stated)
    inner = () if get_origin(hint) is Literal else get_args(hint)
    if not inner:
        yield hint, stated
    for argument in inner:
        yield from _leaves(argument, stated)


def _flat(value: Any) -> Iterator[Any]:
    """The values inside tuples; texts and None are no numbers of this field."""
    if isinstance(value, tuple | list):
        for inner in value:
            yield from _flat(inner)
    elif value is not None and not isinstance(value, str):
        yield value
