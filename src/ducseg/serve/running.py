"""Run the server: bind its port first, listen until a signal, let requests in hand end."""

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Collection

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ducseg.errors import explain
from ducseg.serve.limits import Refusal
from ducseg.serve.service import said

__all__ = ["Crowded", "Impatient", "bind", "is_loopback", "run_server"]

_CONNECTIONS = 512


def bind(host: str, port: int) -> socket.socket:
    """A socket at that address, not yet listening; port 0: any free one.

    Raises:
        UserError: a port in use or not allowed, an address that is none of this machine's.
    """
    try:
        if not 0 <= port <= 65535:  # some systems take the rest of a division
            raise OverflowError("no such port")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            # a port just left is free again; Windows has it so anyway, and there that option lets two servers have one
            found.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR), 1)
            found.bind(address)
        except BaseException:
            found.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise explain(
            f"--host {host} --port {port}",
            found=reason.lower(),
            needed="an address of this machine and a free port, 1024 to 65535",
            fix="Stop what uses it, or choose another; --port 0 takes any free one.",
        ) from None
    return found


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def run_server(app: FastAPI, bound: socket.socket, *, timeout: float) -> None:
    """Serve until SIGTERM or SIGINT; then no connection is accepted and requests in hand have `timeout` seconds to end.

    Raises:
        KeyboardInterrupt: after SIGINT.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what clients do wrong is told to them
    crowded = Crowded(app)
    config = uvicorn.Config(
        crowded, log_level="warning", access_log=False, http=Impatient,
        timeout_graceful_shutdown=max(1, round(timeout)), server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    crowded.connections = server.server_state.connections
    # uvicorn raises the signal again when it is done; SIGTERM is then no failure
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        server.run(sockets=[bound])
    finally:
        signal.signal(signal.SIGTERM, before)


class Crowded:
    """ASGI middleware that refuses as all else here is refused, where more connections are open than that."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.connections: Collection[object] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        app: ASGIApp = self.app
        if scope["type"] == "http" and len(self.connections) > _CONNECTIONS:
            headers = {"Retry-After": "1", "Connection": "close"}
            app = said(Refusal(503, f"server: found {_CONNECTIONS} connections; needed fewer. Try again.", headers))
        await app(scope, receive, send)


class Impatient(H11Protocol):
    """HTTP that closes a connection on which no request has begun for some seconds, whatever trickles in."""

    patience = 10.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, and look at it now and then."""
        super().connection_made(transport)
        self._look(before=None)

    def _look(self, before: object) -> None:
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete
        if idle and before is (self.cycle or self):
            self.transport.close()
        else:
            self.loop.call_later(self.patience, self._look, self.cycle or self)
