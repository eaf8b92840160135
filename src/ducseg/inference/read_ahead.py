"""Read the next pictures while the network works on this one, and put those of one size together."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ducseg.errors import whole

__all__ = ["equal_batches", "read_ahead"]

Item = TypeVar("Item")
Read = TypeVar("Read")


def read_ahead(
    read: Callable[[Item], Read], items: Sequence[Item], *, ahead: int = 2
) -> Iterator[tuple[Item, Callable[[], Read]]]:
    """Yield each item, in order, with a function that gives `read(item)` or raises what it raised.

    `read` runs in threads of its own (decoders release the interpreter lock), at most `ahead` items in front.
    """
    with ThreadPoolExecutor(ahead, thread_name_prefix="read-ahead") as pool:
        pending: deque[Future[Read]] = deque(pool.submit(read, item) for item in items[:ahead])
        for index, item in enumerate(items):
            if index + ahead < len(items):
                pending.append(pool.submit(read, items[index + ahead]))
            yield item, pending.popleft().result


def equal_batches(items: Iterable[Item], key: Callable[[Item], object], size: int) -> Iterator[list[Item]]:
    """The items in order, neighbours with equal keys together, at most `size`; `UserError` for a size below 1."""
    size = whole("--batch-size", size, least=1, fix="1 is one picture at a time.")
    batch: list[Item] = []
    for item in items:
        if batch and key(item) != key(batch[0]):
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
