"""Many at once: batches, a bounded queue, clients that wait too long, leave or do not fetch; the end."""

import socket
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from small_server import Held, Running, in_threads, listening, picture, png, raw_post, serving, small_predictor, until
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ducseg.inference.predictor import Predictor
from ducseg.serve.batches import Batches
from ducseg.serve.gate import Gate
from ducseg.serve.running import Impatient


def held(server: Running, labeller: Held, count: int) -> list[threading.Thread]:
    """So many requests that are being labelled or wait, each of its own size."""
    data = [png(picture(20 + n, 30)) for n in range(count)]
    threads = [threading.Thread(target=server.predict, args=(one,)) for one in data]
    for thread in threads:
        thread.start()
    until(lambda: server.metric("ducseg_requests_in_hand") == count)
    assert labeller.asked.acquire(timeout=10)
    return threads


def test_answers_of_many_at_once_are_the_librarys(predictor: Predictor) -> None:
    images = [picture(40 + 8 * (n % 3), 51, seed=n) for n in range(24)]
    expected = [predictor(image) for image in images]
    with serving(predictor) as server:
        found = in_threads(12, lambda n: [server.predict(png(images[n])), server.predict(png(images[n + 12]))])
        for n, (first, second) in enumerate(found):
            assert np.array_equal(first.picture, expected[n])
            assert np.array_equal(second.picture, expected[n + 12])


@dataclass(eq=False)
class Numbered:
    """A job of a key."""

    key: int
    future: Future[int] = field(default_factory=Future)


def test_equal_keys_go_together_the_oldest_first() -> None:
    taken: list[list[int]] = []
    go, busy = threading.Event(), threading.Semaphore(0)

    def work(jobs: Sequence[Numbered]) -> None:
        taken.append([job.key for job in jobs])
        busy.release()
        assert go.wait(20)
        for job in jobs:
            job.future.set_result(job.key)

    batches = Batches[Numbered](work, most=3)
    batches.start()
    for _ in range(2):  # both threads have something to do
        batches.add(Numbered(0))
        assert busy.acquire(timeout=20)
    jobs = [Numbered(key) for key in (1, 2, 1, 2, 1, 1, 3, 1)]
    for job in jobs:
        batches.add(job)
    batches.withdraw(jobs[6])
    assert len(batches) == 7
    go.set()
    batches.close()
    assert taken[:2] == [[0], [0]]
    assert sorted(taken[2:]) == [[1, 1], [1, 1, 1], [2, 2]], "which of two threads is the first to note is chance"
    assert [job.future.result() for job in jobs if job.key != 3] == [1, 2, 1, 2, 1, 1, 1]
    assert jobs[6].future.cancelled()


def test_pictures_of_one_size_go_through_the_network_together() -> None:
    class Noting(Predictor):
        """Whose first pass waits."""

        go, asked = threading.Event(), threading.Semaphore(0)

        def labels_of(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
            passes.append(len(images))
            self.asked.release()
            assert self.go.wait(20)
            return super().labels_of(images)

    passes: list[int] = []
    labeller = Noting(small_predictor().model)
    with serving(labeller, batch_size=3) as server:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda seed=n: found.append(server.predict(png(picture(24, 30, seed))).status))
            for n in range(9)
        ]
        threads[0].start()
        assert labeller.asked.acquire(timeout=20)
        for one in threads[1:]:
            one.start()
        until(lambda: server.metric("ducseg_requests_in_hand") == 9)
        until(lambda: server.metric("ducseg_pictures_waiting") >= 5)  # the second thread has one to three
        labeller.go.set()
        for one in threads:
            one.join()
        assert found == [200] * 9
        assert sum(passes) == 9
        assert max(passes) == 3
        assert server.metric("ducseg_batch_pictures_count") == len(passes) <= 6
        assert server.metric("ducseg_batch_pictures_sum") == 9


def test_full_is_503_with_retry_after_and_then_it_goes_on() -> None:
    labeller = Held()
    with serving(labeller, queue=4) as server:
        waiting = held(server, labeller, 4)
        for _ in range(3):
            found = server.predict(png(picture()))
            assert found.status == 503
            assert 1 <= int(found.headers["Retry-After"]) <= 60
            assert "4 pictures in hand" in found.json["error"]
        assert server.predict(bytes(20_000_000)).status == 503, "also to who is still sending"
        assert server.ask("GET", "/healthz").status == 200, "other routes have no queue"
        labeller.go.set()
        for one in waiting:
            one.join()
        assert server.predict(png(picture())).status == 200
        assert server.metric('ducseg_requests_total{status="503"}') == 4


def test_an_answer_that_takes_too_long_is_504() -> None:
    labeller = Held()
    with serving(labeller, timeout=0.3) as server:
        assert server.predict(png(picture())).status == 504
        assert server.predict(png(picture(8, 9))).status == 504
        found = server.predict(png(picture(9, 9)))
        assert found.status == 504
        assert "0.3 s" in found.json["error"]
        assert server.metric("ducseg_pictures_waiting") == 0, "it waits no longer"
        labeller.go.set()
        until(lambda: server.predict(png(picture())).status == 200)
        assert (9, 9, 3) not in labeller.pictures, "nobody wanted it any more"


def test_who_leaves_is_not_worked_for() -> None:
    labeller = Held()
    with serving(labeller) as server:
        waiting = held(server, labeller, 2)
        until(lambda: server.metric("ducseg_pictures_waiting") == 0)
        request = raw_post(png(picture(10, 11)))
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(request)
        until(lambda: server.metric("ducseg_pictures_waiting") == 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        until(lambda: server.metric("ducseg_requests_in_hand") == 2)
        until(lambda: server.metric("ducseg_pictures_waiting") == 0)
        half = socket.create_connection(("127.0.0.1", server.port))  # leaves while it sends
        half.sendall(request[:-99])
        until(lambda: server.metric("ducseg_requests_in_hand") == 3)
        half.close()
        until(lambda: server.metric("ducseg_requests_in_hand") == 2)
        labeller.go.set()
        for one in waiting:
            one.join()
        assert (10, 11, 3) not in labeller.pictures


def test_who_does_not_fetch_the_answer_gives_the_place_back() -> None:
    taken: list[int] = []

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(bytes(30_000_000))(scope, receive, send)

    app = Gate(large, path="/predict", places=1, timeout=2.0, full=lambda: Response("full", 503), watch=taken.append)
    with listening(app) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(raw_post(b""))
            assert client.recv(10).startswith(b"HTTP/1.1 2")
            assert server.predict(b"").status == 503, "its place is taken while it could still fetch"
            until(lambda: taken == [1, 0])
            while client.recv(1 << 20):
                pass  # what was under way still comes, then the connection ends
        assert len(server.predict(b"").body) == 30_000_000
    assert taken == [1, 0, 1, 0]


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHo", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGE"])
def test_a_connection_without_a_request_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Impatient, "patience", 0.2)
    with serving(Held()) as server, socket.create_connection(("127.0.0.1", server.port), timeout=3) as client:
        client.sendall(sent)
        while client.recv(1000):
            pass


def test_requests_in_hand_end_when_the_server_stops(predictor: Predictor) -> None:
    labeller = Held()
    found: list[int] = []
    with serving(labeller) as server:
        one = threading.Thread(target=lambda: found.append(server.predict(png(picture())).status))
        one.start()
        assert labeller.asked.acquire(timeout=10)
        threading.Timer(0.5, labeller.go.set).start()
    one.join()
    assert found == [200]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


@pytest.mark.slow
def test_memory_does_not_grow_with_what_waits() -> None:
    """Pictures are decoded when it is their turn: 30 of 6 megapixels (18 MB each) wait as files of a few kB."""
    labeller = Held()
    flat = png(np.zeros((2000, 3000, 3), np.uint8))
    with serving(labeller, queue=30, batch_size=1) as server:
        before = server.metric("process_resident_memory_bytes")
        threads = [threading.Thread(target=server.predict, args=(flat,)) for _ in range(30)]
        for thread in threads:
            thread.start()
        until(lambda: server.metric("ducseg_requests_in_hand") == 30)
        until(lambda: server.metric("ducseg_pictures_waiting") == 28)
        assert labeller.asked.acquire(timeout=10)
        assert server.metric("process_resident_memory_bytes") - before < 12 * 18e6, "two, and what decoding takes"
        labeller.go.set()
        for thread in threads:
            thread.join()
