"""The server below and above what it can do, with clients that stall, send slowly, hang up: it answers rightly or says
503, takes no more memory, and is there for the next one.
"""

import http.client
import socket
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import children
import cv2
import numpy as np
import pytest
from memory import resident
from small_inputs import write_checkpoint

from ducseg.inference.predictor import load_predictor

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
from small_server import form, picture, png, raw_post


@dataclass
class Load:
    """Clients of one server, and what they got."""

    port: int
    bodies: list[tuple[bytes, dict[str, str]]]
    answers: list[Any]
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def ask(self, number: int, began: float | None = None) -> None:
        """One request; its latency counts from when it should have been sent."""
        began = time.monotonic() if began is None else began
        body, headers = self.bodies[number % len(self.bodies)]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/predict?answer=labels", body, headers)
            response = connection.getresponse()
            data, kind = response.read(), str(response.status)
            if response.status == 200:
                self.seconds.append(time.monotonic() - began)
                found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
                kind = "200" if np.array_equal(found, self.answers[number % len(self.bodies)]) else "200 and wrong"
            elif response.status == 503 and not response.headers["Retry-After"]:
                kind = "503 without Retry-After"
        except (OSError, http.client.HTTPException) as error:
            kind = type(error).__name__
        finally:
            connection.close()
        self.statuses[kind] += 1

    def at(self, rate: float, seconds: float) -> None:
        """So many requests a second, whether or not the earlier ones are answered."""
        with ThreadPoolExecutor(64) as pool:
            first = time.monotonic()
            for number in range(int(rate * seconds)):
                due = first + number / rate
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self.ask, number, due)

    def as_it_can(self, count: int, clients: int = 8) -> float:
        """`count` requests by clients that wait for their answers; requests a second."""
        began = time.monotonic()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(self.ask, range(count)))
        return count / (time.monotonic() - began)


def misbehave(port: int, until: threading.Event, kind: int) -> None:
    """Stall in the middle, send a byte at a time, hang up in the middle, hang up before the answer."""
    request = raw_post(png(picture(40, 50)), answer="labels")
    while not until.is_set():
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                if kind == 0:
                    client.sendall(request[: len(request) // 2])
                    until.wait(4)
                elif kind == 1:
                    for at in range(0, 200, 4):
                        client.sendall(request[at : at + 4])
                        time.sleep(0.02)
                else:
                    client.sendall(request[: len(request) // (2 if kind == 2 else 1)])
                    time.sleep(0.02)
        except OSError:
            time.sleep(0.05)


def percentiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [0.0] * 99
    return "p50 {:.0f} p95 {:.0f} p99 {:.0f} ms".format(*(1000 * cuts[at] for at in (49, 94, 98)))


@pytest.mark.slow
def test_the_server_under_load(tmp_path: Path, campaign: bool, book: Any) -> None:
    network = write_checkpoint(tmp_path / "network")
    predictor, images = load_predictor(network), [picture(40, 50 + seed, seed) for seed in range(6)]
    bodies, answers = [form(png(image)) for image in images], [predictor(image) for image in images]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["serve", network, "--device", "cpu", "--port", port, "--timeout", "3"]
    child = children.start(arguments, tmp_path / "said.txt", clocked=False)
    process, wrong = child.process.pid or 0, []

    def noted(what: str, load: Load, refusals: bool, **numbers: Any) -> None:
        right = load.statuses["200"] + load.statuses["503"] * refusals
        tried = sum(load.statuses.values())
        taken = f"{resident(process) >> 20} MiB"
        book.add(f"load: {what}", tried=tried, lost=tried - right, statuses=dict(load.statuses),
                 latency=percentiles(load.seconds), memory=taken, **numbers)  # fmt: skip
        wrong.extend([f"{what}: {load.statuses}"] if right < tried else [])

    def fresh() -> Load:
        return Load(port, bodies, answers)

    try:
        ends = time.monotonic() + 60
        while "http://" not in child.said() and time.monotonic() < ends:
            time.sleep(0.1)
        fresh().as_it_can(60, clients=40)
        capacity = fresh().as_it_can(600 if campaign else 60)
        for times in (0.5, 1, 2, 5):
            load = fresh()
            load.at(times * capacity, 60 if campaign else 2)
            noted(f"{times} times its capacity", load, True, capacity_per_s=round(capacity, 1))
        until = threading.Event()
        bad = [threading.Thread(target=misbehave, args=(port, until, kind)) for kind in range(4) for _ in range(3)]
        for client in bad:
            client.start()
        load = fresh()
        load.at(0.5 * capacity, 30 if campaign else 2)
        until.set()
        for client in bad:
            client.join()
        noted("half its capacity, among clients that stall and hang up", load, True)
        before = resident(process)
        for half in ("first", "second"):
            load = fresh()
            load.as_it_can(5000 if campaign else 100)
            noted(f"one after the other, the {half} half", load, False)
        grown = (resident(process) - before) / 2**20
        assert grown < 16, f"{grown} MiB"
        assert not wrong, wrong
        assert "Traceback" not in child.said(), child.said()[-2000:]
    finally:
        child.process.terminate()
        assert child.wait(30) == 0
