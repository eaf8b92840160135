"""What stands between the network and `POST /predict`: how many at once, how slowly a client may take its answer.

ASGI middleware. A place is taken before the first byte of a picture is read and given back after the last byte of the
answer is sent, so memory is bounded by the places. An answer goes out in pieces, each of which waits until the client
has taken most of what went before. A request that is refused before its body was read is read on for a moment, into
nothing: a client that is still sending would otherwise see a broken connection and not why.
"""

import asyncio
import contextlib
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Gate"]

_PIECE = 1 << 16
_READ_ON = 2.0  # seconds


class Gate:
    """Middleware.

    Args:
        app: what is behind it.
        path: the route that it guards, wherever the application is mounted; others pass.
        places: at most so many at once; `full` answers the others.
        timeout: seconds within which an answer must be taken; then the connection is closed.
        full: makes the answer, an ASGI application.
        watch: told how many places are taken, whenever that changes.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        path: str,
        places: int,
        timeout: float,
        full: Callable[[], ASGIApp],
        watch: Callable[[int], None],
    ) -> None:
        self.app, self.path, self.places, self.timeout = app, path, places, timeout
        self.full, self.watch = full, watch
        self.taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] != "http" or not scope["path"].endswith(self.path) or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, self.timeout)
        if self.taken >= self.places:
            await self.full()(scope, exchange.receive, exchange.send)
        else:
            self._take(1)
            try:
                await self.app(scope, exchange.receive, exchange.send)
            finally:
                self._take(-1)
        waits = any(name == b"expect" for name, _ in scope["headers"])  # such a client sends only what is asked for
        await exchange.end(read_on=not waits)

    def _take(self, change: int) -> None:
        self.taken += change
        self.watch(self.taken)


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send, timeout: float) -> None:
        self._receive, self._send, self._timeout = receive, send, timeout
        self._read, self._given_up, self._last = False, False, False

    async def receive(self) -> Message:
        message = await self._receive()
        self._read = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """In pieces; the last one stays open until `end`. What a client does not take in time is dropped."""
        if self._given_up:
            return
        try:
            async with asyncio.timeout(self._timeout):
                if message["type"] == "http.response.start":
                    headers = message.get("headers", [])
                    closing = [] if self._read else [(b"connection", b"close")]  # else the rest is read for ever
                    await self._send({**message, "headers": [*headers, *closing]})
                    return
                body = message.get("body", b"")
                for start in range(0, len(body), _PIECE):
                    piece = body[start : start + _PIECE]
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                self._last = not message.get("more_body", False)
        except TimeoutError:
            self._given_up = True  # returning without the answer's end closes the connection

    async def end(self, *, read_on: bool) -> None:
        """Close the answer, after what the client still sends where it is being refused."""
        if self._given_up or not self._last:
            return
        if read_on:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READ_ON):
                    while not self._read:
                        await self.receive()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
