"""A server of a small network, in a thread of the test, on a free port of this machine, and requests to it."""

import http.client
import io
import json
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ducseg.classes import ClassSet
from ducseg.inference.predictor import Predictor
from ducseg.models import Preprocessing, build

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

CLASSES = ClassSet(
    ("ground", "tree <b>", "track", "été", "car"), ((120, 90, 60), (0, 140, 0), (200, 200, 200), (0, 0, 0), (255, 0, 9))
)
BOUNDARY = "picture-boundary"


def small_predictor(**options: Any) -> Predictor:
    """Five classes that change from place to place."""
    torch.manual_seed(0)
    network = build(encoder="resnet18", head="duc", num_classes=5, width=8, classes=CLASSES).eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(30)
    return Predictor(network, fused=True, **options)


def predictor_of(channels: int, dtype: str) -> Predictor:
    """Two classes of pictures of other channels and type."""
    torch.manual_seed(0)
    scale = {"uint8": 255.0, "uint16": 4000.0, "float32": 1.0}[dtype]
    network = build(
        encoder="resnet18", head="pyramid", num_classes=2, width=8, output_stride=32, dilation="none", aspp=0,
        num_channels=channels,
        preprocessing=Preprocessing(mean=(scale / 2,) * channels, std=(scale / 4,) * channels, dtype=dtype),
    )  # fmt: skip
    return Predictor(network.eval())


def tiff(image: NDArray[Any]) -> bytes:
    """Bands (H, W, C) of any type as a file."""
    rasterio = pytest.importorskip("rasterio")
    how = dict(zip(("height", "width", "count"), image.shape), dtype=image.dtype.name)
    with rasterio.MemoryFile() as file, warnings.catch_warnings(action="ignore"):
        with file.open(driver="GTiff", **how) as raster:
            raster.write(np.moveaxis(image, 2, 0))
        return bytes(file.read())


def picture(height: int = 37, width: int = 51, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    """As a file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def form(
    data: bytes, *, name: str = "street.png", field: str = "picture", **fields: str
) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers."""
    start = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{start}"{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    file = f'{start}"{field}"; filename="{name}"\r\n\r\n'
    body = "".join([*parts, file]).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def raw_post(data: bytes, **fields: str) -> bytes:
    """A whole request to predict, as it goes over the wire."""
    body, headers = form(data, **fields)
    lines = [f"{name}: {value}" for name, value in {"Host": "x", **headers, "Content-Length": len(body)}.items()]
    return "\r\n".join(["POST /predict HTTP/1.1", *lines, "", ""]).encode() + body


class Answered:
    """A response that has been read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        """Decoded."""
        return json.loads(self.body)

    @property
    def picture(self) -> NDArray[np.uint8]:
        """A PNG's pixels."""
        return np.asarray(Image.open(io.BytesIO(self.body)))


class Running:
    """A server that listens."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None, **options: Any) -> Answered:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {}, **options)
            return Answered(connection.getresponse())
        finally:
            connection.close()

    def predict(self, data: bytes, query: str = "", **options: str) -> Answered:
        """Send a picture's file."""
        return self.ask("POST", f"/predict{query}", *form(data, **options))

    def metric(self, name: str) -> float:
        """The value of a line of /metrics."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split(" ")[0] == name)


@contextmanager
def serving(labeller: Any, tiling: Any = None, **limits: Any) -> Iterator[Running]:
    """Until the block ends."""
    from ducseg.serve.app import create_app
    from ducseg.serve.limits import Limits

    with listening(create_app(labeller, name="small", limits=Limits(**limits), tiling=tiling)) as running:
        yield running


@contextmanager
def listening(app: Any) -> Iterator[Running]:
    """Any ASGI application, until the block ends."""
    from ducseg.serve.running import Impatient, bind

    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", http=Impatient, timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(bound.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(20)
        bound.close()


def until(true: Any, seconds: float = 30.0) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


class Held:
    """A labeller that waits until it is let go, and notes what it was asked."""

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), threading.Semaphore(0)
        self.pictures: list[tuple[int, ...]] = []
        self.classes, self.record = CLASSES, {}

    def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
        self.pictures.append(image.shape)
        self.asked.release()
        assert self.go.wait(20)
        return image[..., 0] % 5

    def probabilities(self, image: NDArray[np.uint8], /) -> NDArray[np.float32]:
        return np.full((5, *image.shape[:2]), 0.2, np.float32)


def in_threads(count: int, call: Any) -> Sequence[Any]:
    """What `call(n)` returns, for n below `count`, all at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))
