"""The elements of a large JSON file one at a time, with their places in it, in memory for one of them.

Made for files that are one object whose members are long arrays, as COCO's annotations (half a gigabyte).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ducseg.errors import UserError, explain

__all__ = ["Element", "elements", "read_element"]

_CHUNK = 1 << 22
_SPACE = " \t\r\n"
_AFTER_A_VALUE = frozenset(",:]}" + _SPACE)


class Element(NamedTuple):
    """One element of the array that a member holds; bytes offset..offset + length - 1 of the file."""

    member: str
    offset: int
    length: int
    value: Any


def elements(path: Path) -> Iterator[Element]:
    """The elements of all arrays directly in the file's object, in its order; other members are passed over.

    Strings are decoded as Latin-1, so that places count bytes; `read_element` decodes them right.

    Raises:
        UserError: a file that does not read, is cut off, or holds no such object.
    """
    try:
        with path.open(encoding="latin-1", newline="") as file:
            yield from _Scanner(file, path).members()
    except OSError as error:
        raise explain(
            f"file {path}", found=error.strerror or str(error), needed="a JSON file", fix="Check the path."
        ) from None


def read_element(path: Path, offset: int, length: int) -> Any:
    """The element at a place that `elements` gave."""
    with path.open("rb") as file:
        file.seek(offset)
        return json.loads(file.read(length))


class _Scanner:
    """Reads on as far as a value needs and drops what was read."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path = file, path
        self._text, self._at, self._dropped = "", 0, 0
        self._decode = json.JSONDecoder().raw_decode

    def members(self) -> Iterator[Element]:
        self._expect("{")
        if self._next() == "}":
            return
        while True:
            key, _, _ = self._value()
            self._expect(":")
            if self._next() == "[":
                yield from self._array(str(key))
            else:
                self._value()
            if self._expect(",}") == "}":
                return

    def _array(self, member: str) -> Iterator[Element]:
        self._expect("[")
        if self._next() == "]":
            self._expect("]")
            return
        while True:
            value, offset, length = self._value()
            yield Element(member, offset, length, value)
            if self._expect(",]") == "]":
                return

    def _value(self) -> tuple[Any, int, int]:
        self._next()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._broken(f"no value ({error.msg})") from None
                continue
            if self._text[end : end + 1] not in _AFTER_A_VALUE and self._more():  # a number goes on
                continue
            start, self._at = self._at, end
            return value, self._dropped + start, end - start

    def _next(self) -> str:
        """The next character that is no space, left where it is."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                raise self._broken("its end")

    def _expect(self, one_of: str) -> str:
        found = self._next()
        if found not in one_of:
            raise self._broken(f"{found!r} where {' or '.join(one_of)} belongs")
        self._at += 1
        return found

    def _more(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._dropped += self._at
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _broken(self, found: str) -> UserError:
        return explain(
            f"file {self._path}",
            found=f"{found} at byte {self._dropped + self._at}",
            needed="a whole JSON object",
            fix="Unpack or download it again.",
        )
