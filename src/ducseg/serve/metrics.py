"""Numbers for Prometheus, of one server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters and their text; `waiting` tells how many pictures wait."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.answered = Counter("ducseg_requests", "Answers to POST /predict.", ["status"], registry=registry)
        self.seconds = Histogram(
            "ducseg_request_seconds", "From a picture's first byte to its answer.", buckets=_SECONDS, registry=registry
        )
        self._in_hand = Gauge("ducseg_requests_in_hand", "Arriving, waiting, computed or sent.", registry=registry)
        self._pass = Histogram(
            "ducseg_network_seconds", "Of the network, for one batch.", buckets=_SECONDS, registry=registry
        )
        self._batch = Histogram(
            "ducseg_batch_pictures", "That went through it together.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        Gauge("ducseg_pictures_waiting", "For the network.", registry=registry).set_function(lambda: float(waiting()))

    def in_hand(self, count: int) -> None:
        """So many requests are in hand."""
        self._in_hand.set(count)

    def passed(self, pictures: int, seconds: float) -> None:
        """A batch went through the network."""
        self._batch.observe(pictures)
        self._pass.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self._registry)
