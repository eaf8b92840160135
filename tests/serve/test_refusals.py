"""What cannot be answered is refused before it costs anything, in one line, with the status that fits."""

import contextlib
import io
import socket
import struct
import subprocess
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_server import BOUNDARY, Answered, Held, Running, form, picture, png, raw_post, serving

from ducseg.errors import UserError
from ducseg.serve import gate
from ducseg.serve.limits import Limits
from ducseg.serve.running import bind

KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def refused(found: Answered, status: int, *words: str) -> None:
    """The answer is one line that has these words."""
    assert found.status == status, found.body
    assert found.headers["Content-Type"] == "application/json"
    assert set(found.json) == {"error"}
    assert "\n" not in found.json["error"]
    for word in words:
        assert word in found.json["error"]


def saved(image: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


OTHER = Image.fromarray(255 - picture())


def bomb(height: int, width: int) -> bytes:
    """A few bytes that say they are a PNG of that size."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND"]
    framed = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (b"", 400, ["street.png", "0 bytes"]),
        (b"hello", 415, ["no picture"]),
        (b"%PDF-1.7 ...", 415, ["a PDF"]),
        (b"\x1aE\xdf\xa3" + bytes(100), 415, ["a video"]),
        (b"PK\x03\x04" + bytes(100), 415, ["an archive"]),
        (bytes(4), 415, ["no picture"]),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, ["no picture"]),
        (png(picture())[:400], 422, ["truncated"]),
        (saved(Image.fromarray(picture()), "jpeg")[:-300], 422, ["damaged"]),
        (bomb(1, 0), 422, ["1 x 0 pixels"]),
        (bomb(5001, 5000), 413, ["5001 x 5000", "25.0 megapixels", "--max-pixels"]),
        (bomb(2**31 - 1, 2**31 - 1), 413, ["megapixels"]),
        (saved(Image.fromarray(np.zeros((4, 5), np.uint16)), "png"), 422, ["uint16", "8 bits"]),
        (
            saved(Image.fromarray(picture()), "tiff", save_all=True, append_images=[Image.fromarray(picture())]),
            422,
            ["a stack of 2 pages"],
        ),
        *(
            (saved(Image.fromarray(picture()), kind, save_all=True, append_images=[OTHER]), 422, ["a stack of 2 pages"])
            for kind in ("png", "webp", "gif")
        ),
    ],
    ids=lambda value: None if isinstance(value, list) else repr(value[:9]) if isinstance(value, bytes) else str(value),
)
def test_files(server: Running, data: bytes, status: int, words: list[str]) -> None:
    refused(server.predict(data), status, *words)


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"abc", {}, 415, ["no content type", "multipart/form-data"]),
        (png(picture()), {"Content-Type": "image/png"}, 415, ["image/png", "curl -F"]),
        (b"abc", {"Content-Type": "multipart/form-data"}, 400, ["boundary"]),
        (b"abc", KIND, 400, ["multipart"]),
        (b"", KIND, 400, ["end before its last boundary"]),
        (form(png(picture()))[0][:-30], KIND, 400, ["end before its last boundary"]),
        (f"--{BOUNDARY}--\r\n".encode(), KIND, 400, ["no file"]),
        (form(b"")[0].replace(b'; filename="street.png"', b""), KIND, 400, ["no file", "-F picture=@FILE"]),
        (form(png(picture()))[0][: -len(BOUNDARY) - 6] + form(png(picture()))[0], KIND, 400, ["1"]),
    ],
)
def test_forms(server: Running, body: bytes, headers: dict[str, str], status: int, words: list[str]) -> None:
    refused(server.ask("POST", "/predict", body, headers), status, *words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?answer=mask", ["'mask'", "labels, color"]),
        ("?answer=", ["''"]),
        ("?answers=labels", ["'answers'", "answer, include"]),
        ("?answer=json&include=geojson", ["'geojson'"]),
        ("?answer=labels&include=labels", ["answer=json"]),
        ("?answer=labels&answer=color", ["needed one"]),
    ],
)
def test_options(server: Running, query: str, words: list[str]) -> None:
    refused(server.predict(png(picture()), query), 422, *words)


def test_routes(server: Running) -> None:
    refused(server.ask("GET", "/nowhere"), 404, "/nowhere", "/docs")
    refused(server.ask("GET", "/predict"), 405)
    refused(server.ask("GET", "/../../etc/passwd"), 404)
    refused(server.ask("GET", "/%2e%2e/app.py"), 404)


def test_too_many_bytes_are_refused_by_what_the_header_says() -> None:
    with serving(Held(), max_bytes=1000) as server:
        refused(server.predict(bytes(200_000)), 413, "0.2 MB", "--max-bytes")
        with socket.create_connection(("127.0.0.1", server.port)) as client:  # no byte of the body is waited for
            client.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: {KIND['Content-Type']}\r\n".encode())
            client.sendall(b"Content-Length: 999999999\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def test_too_many_bytes_are_refused_while_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_READ_ON", 0.2)
    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield form(b"")[0].split(b"\r\n\r\n")[0] + b"\r\n\r\n"
        while sent < 16_000_000:
            sent += 1 << 14
            yield bytes(1 << 14)
            time.sleep(0.01)

    with serving(Held(), max_bytes=1000) as server:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it read no further
            refused(server.ask("POST", "/predict", endless(), KIND, encode_chunked=True), 413)
        assert sent < 16_000_000
        refused(server.predict(bytes(1001)), 413)
        assert server.predict(bytes(1000)).status == 415


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    """Whose own socket would else be closed under it."""
    with serving(Held(), max_bytes=1000) as server:
        for _ in range(5):
            refused(server.predict(bytes(20_000_000)), 413, "MB")


def test_a_slow_upload_is_given_up() -> None:
    with serving(Held(), timeout=0.3) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(raw_post(png(picture()))[:-100])
        answer = client.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert server.metric("ducseg_requests_in_hand") == 0


def test_on_windows_a_port_in_use_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """There SO_REUSEADDR lets any number of programs listen on one, and clients reach either."""
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)  # some option, as a stand-in
    with bind("127.0.0.1", 0) as bound:
        assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_limits_are_numbers() -> None:
    for wrong in ({"queue": 0}, {"max_bytes": -1}, {"timeout": 0}, {"timeout": float("nan")}, {"batch_size": 0}):
        (name,) = wrong
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')}"):
            Limits(**wrong)


def test_what_the_labeller_refuses_is_said() -> None:
    class Small(Held):
        def __call__(self, image: Any, /) -> Any:
            raise UserError("not enough memory: found a picture of 37 x 51")

    with serving(Small()) as server:
        refused(server.predict(png(picture())), 422, "not enough memory")


def test_too_little_memory_for_one_is_not_the_end() -> None:
    class Full(Held):
        def __call__(self, image: Any, /) -> Any:
            raise MemoryError

    with serving(Full()) as server:
        refused(server.predict(png(picture())), 503, "memory")


def test_a_defect_is_one_line_too(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Held):
        def __call__(self, image: Any, /) -> Any:
            if image.shape[0] == 37:
                raise RuntimeError("a secret of ours")
            return image[..., 0] % 5

    with serving(Broken()) as server:
        found = server.predict(png(picture()))
        refused(found, 500, "its log")
        assert b"secret" not in found.body
        assert server.predict(png(picture(8, 9))).status == 200, "it goes on"
    assert "a secret of ours" in capfd.readouterr().err


def test_curl_reads_a_refusal(server: Running, tmp_path: Any) -> None:
    (tmp_path / "large.png").write_bytes(bytes(33_000_000))
    command = ["curl", "-sS", "-w", " %{http_code}", "-F", f"picture=@{tmp_path}/large.png", f"{server.url}/predict"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        pytest.skip("no curl")
    assert found.stdout.endswith(" 413"), found.stderr
