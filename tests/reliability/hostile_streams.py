"""Archives, clips, requests."""

import io
import pickle
import socket
import tarfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hostile_parts import (
    Evil,
    noise,
    saved,
)
from hostile_workers import Target
from PIL import Image

from ducseg.errors import UserError

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {}


def _tars(_folder: Path) -> Sequence[bytes]:
    made = []
    for mode, form in (("w", tarfile.PAX_FORMAT), ("w", tarfile.GNU_FORMAT), ("w:gz", tarfile.USTAR_FORMAT)):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode, format=form) as archive:  # type: ignore[call-overload]
            for name in ("a/0.png", "a/1.png", "é" * 60 + "/2.jpg"):
                data = saved(Image.fromarray(noise()), "png")
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return made


def _evil_tars(_folder: Path) -> dict[str, bytes]:
    made = {}
    for name in (
        "../../outside.png",
        "/tmp/ducseg-was-run.png",
        "a/../../b.png",
        "C:\\x.png",
        "a\\..\\x.png",
        "x\n.png",
        ".png",
        "a/.png",
        "-rf.png",
        "a" * 3000 + ".png",
    ):
        for kind in (
            tarfile.REGTYPE,
            tarfile.SYMTYPE,
            tarfile.LNKTYPE,
            tarfile.CHRTYPE,
            tarfile.FIFOTYPE,
            tarfile.DIRTYPE,
        ):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = kind, "/etc/passwd", 4 if kind == tarfile.REGTYPE else 0
                archive.addfile(info, io.BytesIO(b"1234"))
            made[f"{name[:20]!r} {kind!r}"] = file.getvalue()
    info = tarfile.TarInfo("huge.png")
    info.size = 2**40
    made["huge"] = info.tobuf() + bytes(2048)
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as archive:
        info = tarfile.TarInfo("bomb.png")
        info.size = 1 << 28
        archive.addfile(info, io.BytesIO(bytes(1 << 28)))
    made["bomb"] = bomb.getvalue()
    return made


def _read_tar(folder: Path, file: Path) -> None:
    from ducseg.inference.tars import extract, list_members

    out = folder / "unpacked"
    for member, info, archive in list_members(file):
        if member.refused is None:
            try:
                extract(archive, info, out)
            except UserError:
                continue
            assert out.stat().st_size == info.size
            out.unlink()


TARGETS["tar of pictures"] = Target(_tars, _read_tar, ".tar", made=_evil_tars)


def _clips(folder: Path) -> Sequence[bytes]:
    import av

    folder.mkdir(exist_ok=True)
    made = []
    for suffix, codec in (
        (".mp4", "mpeg4"),
        (".avi", "mjpeg"),
        (".mkv", "mpeg4"),
        (".webm", "libvpx"),
        (".gif", "gif"),
        (".ts", "mpeg2video"),
    ):
        path = folder / f"clip{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = (
                48,
                32,
                "rgb8" if codec == "gif" else "yuvj420p" if codec == "mjpeg" else "yuv420p",
            )
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(np.roll(noise(32, 48), number, 1), format="rgb24")
                container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode())
        made.append(path.read_bytes())
    return made


def _clips_by_hand(_folder: Path) -> dict[str, bytes]:
    return {
        "playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "empty": b"", "text": b"hello",
        "dash": b'<?xml version="1.0"?><MPD><Period><BaseURL>/etc/passwd</BaseURL></Period></MPD>',
        "picture": saved(Image.fromarray(noise()), "png"),
        "tee": b"[tee]/tmp/x", "pickle": pickle.dumps(Evil()), "ftyp": b"\0\0\0\x18ftypmp42" + bytes(8),
        "moov": b"\xff\xff\xff\xffmoov" + bytes(20), "ebml": b"\x1aE\xdf\xa3\xff" + bytes(20),
    }  # fmt: skip


def _read_clip(_context: Any, file: Path) -> None:
    from ducseg.inference.frames import VideoFile

    clip, last = VideoFile(file), Fraction(-1)
    for number, frame in enumerate(clip):
        assert frame.image.dtype == np.uint8 and frame.image.ndim == 3
        last = frame.time
        if number > 300:
            break
    float(last)


TARGETS["clip"] = Target(_clips, _read_clip, ".mp4", made=_clips_by_hand)


def _requests(_folder: Path) -> Sequence[bytes]:
    from small_server import picture, png, raw_post

    plain = b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    gets = [plain % path for path in (b"", b"health", b"metrics", b"model", b"openapi.json")]
    return [
        *gets,
        *[raw_post(png(picture(24, 32)), answer=answer) for answer in ("labels", "json", "color", "geojson")],
    ]


def _server(_folder: Path) -> Any:
    from small_server import serving, small_predictor

    open_one = serving(small_predictor(), timeout=10)
    return SimpleNamespace(running=open_one.__enter__(), kept=open_one)


def _send(context: Any, file: Path) -> None:
    """The server answers in HTTP or hangs up, never with 500, and is there for the next one."""
    answer = b""
    with socket.create_connection(("127.0.0.1", context.running.port), timeout=15) as connection:
        try:
            connection.sendall(file.read_bytes())
            connection.shutdown(socket.SHUT_WR)
            while chunk := connection.recv(1 << 16):
                answer += chunk
        except (ConnectionError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                raise AssertionError(f"no answer within 15 s; so far {answer[:200]!r}") from None
    if answer:
        status = answer.split(b" ", 2)[1]
        assert answer.startswith(b"HTTP/1.1 ") and status != b"500", answer[:500]
        assert b"Traceback" not in answer


def _requests_by_hand(_folder: Path) -> dict[str, bytes]:
    form = b"Content-Type: multipart/form-data"
    post = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return {
        "nothing": b"", "no http": b"hello\r\n\r\n", "half": b"GET / HT",
        "long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        "path": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "encoded path": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "nul": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "two lengths": post + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
        "length and chunks": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "negative": post + b"Content-Length: -5\r\n\r\nhello",
        "huge": post + b"Content-Length: 99999999999999999999\r\n\r\nhello",
        "bad chunk": post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "huge chunk": post + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\nhello",
        "method": b"BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "tls": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(60),
        "expect": post + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "no boundary": post + b"Content-Type: multipart/form-data\r\nContent-Length: 5\r\n\r\nhello",
        "long boundary": post + form + b"; boundary=" + b"x" * 5000 + b"\r\nContent-Length: 5\r\n\r\nhello",
        "gzip": post + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        "upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "old": b"GET / HTTP/0.9\r\n\r\n",
        "absolute": b"GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "folded": b"GET / HTTP/1.1\r\nHost: x\r\n y\r\nConnection: close\r\n\r\n",
        "no host": b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "star": b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    }  # fmt: skip


TARGETS["HTTP request"] = Target(
    _requests, _send, ".http", prepare=_server, made=_requests_by_hand,
    may_run=frozenset({"socket.connect", "socket.bind"}),
)  # fmt: skip
