"""The one exception a user meets, and the one way its message is built."""

__all__ = ["UserError", "explain"]


class UserError(ValueError):
    """Bad input from a person: the command line prints its message on one line and exits with status 2."""


def explain(what: str, *, found: object, needed: object, fix: str) -> UserError:
    """Build a `UserError` that says what was wrong, what was found, what is needed and how to go on."""
    return UserError(f"{what}: found {found}; needed {needed}. {fix}")
