"""Read the next pictures while the network works on this one."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

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
