"""A picture out of a request: bytes are counted while they arrive, its header is read before a pixel is decoded.

Nothing is written to disk: what may arrive is bounded, and so is how many arrive at once (`gate`).
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ducseg.data.files.header import check_header, read_header
from ducseg.errors import UserError
from ducseg.serve.limits import Limits, Refusal

__all__ = ["Upload", "read_upload"]

_AROUND = 1 << 16
"""Bytes that a form may have beside the picture."""
_CUT = "its end before its last boundary"


@dataclass(frozen=True)
class Upload:
    """A picture's file, as yet not decoded.

    Attributes:
        name: as the client calls it, without folders.
        size: (H, W) as a viewer shows it.
        fields: the form's other fields.
    """

    name: Path
    data: bytes
    size: tuple[int, int]
    fields: tuple[tuple[str, str], ...]


async def read_upload(request: Request, limits: Limits) -> Upload:
    """The one picture of a multipart form, in whatever field it is.

    Raises:
        Refusal: 400 no form, no picture or several, zero bytes, an end before the end; 408 too slow; 413 too many bytes
            or pixels; 415 no form, no picture; 422 a picture that cannot be read, a stack of pages.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refusal.explained(
            415,
            "request",
            found=kind or "no content type",
            needed="multipart/form-data with one picture",
            fix="For example: curl -F picture=@street.jpg URL/predict.",
        )
    try:
        async with asyncio.timeout(limits.timeout):
            name, data, fields = await _form(request, limits)
    except TimeoutError:
        raise Refusal.explained(
            408,
            "picture",
            found=f"it had not arrived after {limits.timeout:g} s",
            needed="a faster connection, or a smaller file",
            fix="Send it again.",
        ) from None
    except (MultiPartException, ClientDisconnect, UnicodeError) as error:
        otherwise = "names that its charset does not read" if isinstance(error, UnicodeError) else _CUT
        found = getattr(error, "message", otherwise).rstrip(".")
        raise Refusal.explained(
            400, "form", found=found, needed="one whole picture", fix="With curl: -F picture=@FILE, the @ included."
        ) from None
    return Upload(name, data, await asyncio.to_thread(_checked, data, name, limits), fields)


async def _form(request: Request, limits: Limits) -> tuple[Path, bytes, tuple[tuple[str, str], ...]]:

    async def whole() -> AsyncGenerator[bytes, None]:
        async for chunk in _counted(request, limits):
            yield chunk
        if not parser.ended:
            raise MultiPartException(_CUT)

    parser = _InMemory(request.headers, whole(), max_files=1, max_fields=16, max_part_size=_AROUND)
    parser.spool_max_size = limits.max_bytes + 1
    form = await parser.parse()
    try:
        items = form.multi_items()
        files = [value for _, value in items if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise MultiPartException("no file in it")
        data = await files[0].read()
    finally:
        await form.close()
    called = (files[0].filename or "").encode(errors="replace").decode()  # some charsets give halves of letters
    name = Path(Path(called).name[-80:] or "picture")
    if not data:
        raise Refusal.explained(400, f"file {name}", found="0 bytes", needed="a picture", fix="Choose another file.")
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    return name, data, tuple((key, value) for key, value in items if isinstance(value, str))


class _InMemory(MultiPartParser):
    """Starlette's, which says whether the last boundary came."""

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], **most: int) -> None:
        super().__init__(headers, stream, **most)
        self.ended = False

    def on_end(self) -> None:
        self.ended = True


async def _counted(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    """The body's chunks, as long as they are not too many; one that says beforehand that it is too long is not read."""
    most = limits.max_bytes + _AROUND
    said = request.headers.get("content-length", "0")
    if said.isdecimal() and int(said) > most:
        raise _too_many_bytes(int(said), limits)
    so_far = 0
    async for chunk in request.stream():
        so_far += len(chunk)
        if so_far > most:
            raise _too_many_bytes(so_far, limits)
        yield chunk


def _too_many_bytes(found: int, limits: Limits) -> Refusal:
    return Refusal.explained(
        413,
        "file",
        found=f"{found / 1e6:.1f} MB or more",
        needed=f"at most {limits.max_bytes / 1e6:.1f} MB",
        fix="Save it as JPEG or make it smaller; the server's --max-bytes raises the limit.",
    )


def _checked(data: bytes, name: Path, limits: Limits) -> tuple[int, int]:
    try:
        header = read_header(data, name)
    except UserError as error:
        raise Refusal.of(415, error) from None
    height, width = header.size
    if height * width > limits.max_pixels:
        raise Refusal.explained(
            413,
            f"file {name}",
            found=f"{height} x {width} pixels (H x W), {height * width / 1e6:.1f} megapixels",
            needed=f"at most {limits.max_pixels / 1e6:.1f} megapixels",
            fix="Make it smaller or cut it into tiles; the server's --max-pixels raises the limit.",
        )
    try:
        check_header(header, name)
    except UserError as error:
        raise Refusal.of(422, error) from None
    return header.shown_size
