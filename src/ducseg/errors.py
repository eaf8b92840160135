"""The one exception a user meets, the one way its message is built, what counts as a number, packages of extras."""

import importlib
import math
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

__all__ = [
    "MALFORMED", "Said", "UserError", "as_number", "as_text", "as_whole", "behind", "explain", "listed", "package",
    "real", "said_as_lines", "taken_apart", "typed", "whole",
]  # fmt: skip


class UserError(ValueError):
    """Bad input from a person: the command line prints its message on one line and exits with status 2."""


class Said(UserWarning):
    """What a person is to know: the command line prints its message on one line."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def said_as_lines(say: Callable[[str], None] = _to_stderr) -> None:
    """From now on what is `Said` is shown without the place in the program that says it, as in worker processes."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
        if issubclass(category, Said):
            say(f"warning: {message}")
        else:
            shown(message, category, *place)

    warnings.showwarning = show  # type: ignore[assignment]


def explain(what: str, *, found: object, needed: object, fix: str) -> UserError:
    """Build a `UserError` of one line: what was wrong, what was found, what is needed and how to go on."""
    return UserError(" ".join(f"{what}: found {found}; needed {needed}. {fix}".splitlines()))


MALFORMED = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
"""What values of another kind than thought raise where they are taken apart: null for a list, 1e999 for a number."""


@contextmanager
def taken_apart(what: str, *, found: str, needed: object, fix: str) -> Iterator[None]:
    """Raise `UserError` where what others wrote does not read, or is not of the kinds that it should be of.

    Args:
        found: "no COCO annotations", to which the reason is added.
    """
    try:
        yield
    except UserError:
        raise
    except (OSError, *MALFORMED) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {str(error)[:200]}"
        raise explain(what, found=f"{found} ({reason})", needed=needed, fix=fix) from error


def as_text(value: object) -> str:
    """A text that is not blank; TypeError for what only could be made one, null or a list, which `taken_apart` says."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{str(value)[:60]!r} for a text")
    return value


def as_number(value: object) -> float:
    """A number of JSON; TypeError for what only could be made one, such as true or a text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:60]!r} for a number")
    return float(value)


def as_whole(value: object) -> int:
    """A whole number, 3 or 3.0; TypeError for what only could be made one."""
    if not as_number(value).is_integer():
        raise TypeError(f"{str(value)[:60]!r} for a whole number")
    return int(value)  # type: ignore[call-overload, no-any-return]


def behind(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was made of: one that comes in the middle of Python's own work is at times another."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def typed(*words: object) -> str:
    """Words as they are typed in a shell: quoted where need be, on Windows as its shells know it."""
    if os.name != "nt":
        return shlex.join(map(str, words))
    return " ".join(map(_typed_on_windows, map(str, words)))


def _typed_on_windows(word: str) -> str:
    if re.fullmatch(r"[\w@%+=:,./\\-]+", word):
        return word
    ending = word[len(word.rstrip("\\")) :]  # a quote after an odd number of backslashes would not end it
    return f'"{word}{ending}"'


def listed(items: Sequence[object], most: int = 5, separator: str = ", ") -> str:
    """The first `most` for a message, and how many more there are: "a, b and 3 more"."""
    more = f"{separator.rstrip(', ')} and {len(items) - most} more" if len(items) > most else ""
    return separator.join(map(str, items[:most])) + more


def package(module: str, *, what: str, install: str, needed: str = "it to read them") -> Any:
    """The module of a package that only some need; `UserError` where it is missing: what needs it, what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise explain(what, found=f"{name} is not installed", needed=needed, fix=f"pip install {install}") from None


def whole(what: str, value: object, *, least: int = 0, most: int | None = None, fix: str) -> int:
    """A whole number of Python's or numpy's, as int; `UserError` for another type (bool too), or one out of bounds."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise explain(what, found=repr(value), needed=f"a whole number not below {least}", fix=fix)
    if most is not None and int(value) > most:
        raise explain(what, found=repr(value), needed=f"at most {most}", fix=fix)
    return int(value)


def real(what: str, value: object, *, positive: bool = False, fix: str) -> float:
    """A finite number not below 0 of Python's or numpy's, as float; `positive`: above 0. Else `UserError`."""
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:  # a whole number beyond all floats
        number = math.inf
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        needed = "a positive number" if positive else "a number not below 0"
        raise explain(what, found=repr(value), needed=needed, fix=fix)
    return number
