"""`ducseg serve` at half, once and twice what it can do: does it stay up, answer rightly, keep its memory, how fast.

    python benchmarks/server_load.py                                       # an untrained network, two minutes
    python benchmarks/server_load.py --checkpoint RUN --seconds 60 --size 512 1024 --json load.json

The server is a process of its own, asked on loopback. First 2 x its batch size of clients ask one picture after the
other: what it answers a second is its capacity. Then pictures arrive at random (Poisson) at 0.5, 1 and 2 times
that rate, whether or not it has answered earlier ones; a client that is told to come back does not. Each answer is
compared with the library's labels, byte for byte. Latency is from connecting to the last byte of an answer with
status 200; memory is the server's own figure, asked every half second.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ducseg.data.files.png import encode_png
from ducseg.inference.opening import open_labeller
from ducseg.models import build
from ducseg.weights.checkpoint import save_segmenter

LOADS = (0.5, 1.0, 2.0)
PICTURES = 8
BOUNDARY = b"load"


@dataclass
class Seen:
    """What came of the pictures of one load."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    memory: float = 0.0

    def row(self, load: float, rate: float, seconds: float) -> dict[str, Any]:
        """As numbers: latencies in milliseconds, memory in MB."""
        cuts = statistics.quantiles(self.latencies, n=100) if len(self.latencies) > 1 else [float("nan")] * 99
        return {
            "load": load, "asked_per_s": rate, "answered_per_s": len(self.latencies) / seconds,
            "p50_ms": 1e3 * cuts[49], "p95_ms": 1e3 * cuts[94], "p99_ms": 1e3 * cuts[98],
            "statuses": dict(self.statuses), "wrong": self.wrong, "memory_mb": self.memory / 1e6,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="default: mobilenet_v2 with a pyramid, untrained")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), help="height and width of the pictures")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--queue", type=int, default=32)
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = arguments.checkpoint or untrained(Path(folder) / "network")
        rows = asyncio.run(measure(checkpoint, arguments))
    print(
        f"{'load':>5} {'asked/s':>8} {'done/s':>7} {'p50':>6} {'p95':>6} {'p99 ms':>7} {'MB':>6} {'wrong':>5}  statuses"
    )
    for row in rows:
        print(
            f"{row['load']:5.1f} {row['asked_per_s']:8.2f} {row['answered_per_s']:7.2f} {row['p50_ms']:6.0f} "
            f"{row['p95_ms']:6.0f} {row['p99_ms']:7.0f} {row['memory_mb']:6.0f} {row['wrong']:5d}  {row['statuses']}"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2))
    sys.exit(any(row["wrong"] for row in rows))


def untrained(folder: Path) -> str:
    """A checkpoint of the default network for one's own pictures, with random weights."""
    torch.manual_seed(0)
    network = build(
        encoder="mobilenet_v2", head="pyramid", num_classes=11, output_stride=32, dilation="none", aspp=0
    )  # fmt: skip
    save_segmenter(folder, network)
    return str(folder)


async def measure(checkpoint: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of all loads, after the capacity."""
    rng, labeller = np.random.default_rng(0), open_labeller(checkpoint)
    height, width = arguments.size
    noise = rng.integers(0, 256, (PICTURES, height // 16 + 2, width // 16 + 2, 3), np.uint8)
    pictures = [np.asarray(cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8) for one in noise]
    asked = [(request(encode_png(one)), encode_png(labeller(one))) for one in pictures]
    async with serving(checkpoint, arguments) as port:
        for warm in range(2):
            await ask(port, *asked[warm], Seen())
        capacity = await closed(port, asked, 2 * arguments.batch_size, arguments.seconds / 2)
        print(f"capacity: {capacity:.2f} pictures a second, {height} x {width}", flush=True)
        return [await opened(port, asked, load, load * capacity, arguments.seconds) for load in LOADS]


@asynccontextmanager
async def serving(checkpoint: str, arguments: argparse.Namespace) -> AsyncIterator[int]:
    """A server's port; afterwards it must end well by SIGTERM."""
    options = ["--port", "0", "--batch-size", str(arguments.batch_size), "--queue", str(arguments.queue)]
    command = [sys.executable, "-m", "ducseg", "serve", checkpoint, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+)/", process.stdout.readline())
            assert found, "it did not start"
            yield int(found[1])
            process.terminate()
            assert process.wait(60) == 0, "it ended badly"
        finally:
            process.kill()


async def closed(port: int, asked: list[tuple[bytes, bytes]], clients: int, seconds: float) -> float:
    """Answers a second to so many clients that always wait for one."""
    seen, end = Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < end:
            await ask(port, *asked[number % PICTURES], seen)

    began = time.perf_counter()
    await asyncio.gather(*map(client, range(clients)))
    assert not seen.wrong
    return len(seen.latencies) / (time.perf_counter() - began)


async def opened(
    port: int, asked: list[tuple[bytes, bytes]], load: float, rate: float, seconds: float
) -> dict[str, Any]:
    """Pictures at random times, `rate` a second."""
    seen, chance = Seen(), random.Random(0)
    watching = asyncio.create_task(watch(port, seen))
    began, at, under_way = time.perf_counter(), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        under_way.append(asyncio.create_task(ask(port, *chance.choice(asked), seen)))
    await asyncio.gather(*under_way)
    took = time.perf_counter() - began
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return seen.row(load, rate, took)


async def ask(port: int, sent: bytes, expected: bytes, seen: Seen) -> None:
    """One request on a connection of its own."""
    began = time.perf_counter()
    try:
        answer = await exchange(port, sent)
    except OSError as error:
        seen.statuses[type(error).__name__] += 1
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split()[1].decode()
    seen.statuses[status] += 1
    if status == "200":
        seen.latencies.append(time.perf_counter() - began)
        seen.wrong += body != expected


async def watch(port: int, seen: Seen) -> None:
    """The server's memory, the most of it."""
    while True:
        text = (await exchange(port, b"GET /metrics HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n")).decode()
        found = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
        seen.memory = max(seen.memory, float(found[1]) if found else 0.0)
        await asyncio.sleep(0.5)


async def exchange(port: int, sent: bytes) -> bytes:
    """What comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await reader.read()
    finally:
        writer.close()


def request(file: bytes) -> bytes:
    """A POST of a picture's file."""
    start = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n'
    body = start + file + b"\r\n--" + BOUNDARY + b"--\r\n"
    head = (
        b"POST /predict HTTP/1.1\r\nHost: load\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary="
        + BOUNDARY + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )  # fmt: skip
    return head + body


if __name__ == "__main__":
    main()
