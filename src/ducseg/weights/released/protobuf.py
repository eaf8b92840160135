"""Protobuf's wire format, walked from front to back: no length in a file leads past its end, no number is read.

A message is fields, each a number and a kind: a varint, 8 or 4 bytes, or a length and so many bytes (a text, packed
numbers, another message). What a field means is the caller's to know.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ducseg.weights.released.network import BoundedFile

__all__ = ["LENGTH", "VARINT", "Field", "Walk"]

VARINT = 0
"""Wire type of a number."""

LENGTH = 2
"""Wire type of bytes that a length precedes."""

_FIXED = {1: 8, 5: 4}


class Field(NamedTuple):
    number: int
    wire: int
    value: int
    """A varint's value; a length-delimited field's length, its bytes are next."""


class Walk:
    """Protobuf fields of a file, from front to back.

    Args:
        file: not yet read.
        most: fields in all, which bounds the time that a hostile file can take.
    """

    def __init__(self, file: BoundedFile, most: int) -> None:
        self.file, self._most = file, most
        self._fields = 0

    def fields(self, end: int) -> Iterator[Field]:
        """The fields up to byte `end`; what a caller leaves unread of one is skipped."""
        while self.file.position < end:
            self._fields += 1
            if self._fields > self._most:
                raise self.file.broken(f"more than {self._most} fields")
            number, wire = divmod(self.varint(end), 8)
            if wire == VARINT:
                yield Field(number, wire, self.varint(end))
            elif wire in _FIXED:
                self._check(_FIXED[wire], end)
                self.file.skip(_FIXED[wire], "a number")
            elif wire == LENGTH:
                length = self.varint(end)
                self._check(length, end)
                stop = self.file.position + length
                yield Field(number, wire, length)
                self.file.skip(stop - self.file.position, "a field")
            else:
                raise self.file.broken(f"a field of kind {wire} before byte {self.file.position}")

    def varint(self, end: int) -> int:
        """An unsigned integer of up to 64 bits, in at most ten bytes before `end`."""
        value = 0
        for shift in range(0, 70, 7):
            self._check(1, end)
            (byte,) = self.file.take(1, "a field")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise self.file.broken(f"an integer of more than ten bytes before byte {self.file.position}")

    def _check(self, count: int, end: int) -> None:
        left = end - self.file.position
        if count > left:
            raise self.file.broken(f"{count} bytes of a field announced at byte {self.file.position}, {left} are left")
