"""What the server takes at most, and how it says no: one message, the right status."""

from dataclasses import dataclass, field

from ducseg.errors import UserError, explain, real, whole

__all__ = ["Limits", "Refusal"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of memory and time, each tested before it costs any.

    Attributes:
        queue: requests in hand at once: arriving, waiting, computed, being answered.
        batch_size: waiting pictures of one size go through the network together, up to so many.
        max_bytes: of a picture's file.
        max_pixels: of a picture, as its header has them.
        timeout: seconds for a picture to arrive, as many for its answer to be ready, as many for it to be fetched.

    Raises:
        UserError: a number that is none of these.
    """

    queue: int = 32
    batch_size: int = 4
    max_bytes: int = 32_000_000
    max_pixels: int = 25_000_000
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("queue", "batch_size", "max_bytes", "max_pixels"):
            whole(f"--{name.replace('_', '-')}", getattr(self, name), least=1, fix="Correct it.")
        real("--timeout", self.timeout, positive=True, fix="Give seconds.")


@dataclass
class Refusal(Exception):
    """What a request is answered with instead of a prediction.

    Attributes:
        status: of HTTP.
        message: one line for a person.
        headers: beside it.
    """

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, error: UserError) -> "Refusal":
        """With the words of an error."""
        return cls(status, str(error))

    @classmethod
    def explained(cls, status: int, what: str, *, found: object, needed: object, fix: str) -> "Refusal":
        """As `explain`."""
        return cls.of(status, explain(what, found=found, needed=needed, fix=fix))
