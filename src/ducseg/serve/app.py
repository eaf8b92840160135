"""The routes: `POST /predict`, `GET /model`, `/healthz`, `/metrics`, and the page at `/`.

Every error is JSON, {"error": one line}. Answers are bit for bit what the labeller says of the decoded picture.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ducseg.inference.labeller import Labeller
from ducseg.inference.tiles import Tiling
from ducseg.serve.described import PREDICT, RESPONSES
from ducseg.serve.gate import Gate
from ducseg.serve.limits import Limits, Refusal
from ducseg.serve.service import Service, said
from ducseg.version import __version__

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"
_MEDIA = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".jpg": "image/jpeg",
}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(
    labeller: Labeller,
    *,
    name: str = "model",
    limits: Limits | None = None,
    tiling: Tiling | None = None,
    about: dict[str, Any] | None = None,
) -> FastAPI:
    """A server of one network, for uvicorn to run or to mount in an application of one's own.

    Args:
        labeller: the network, as `ducseg.load` gives it.
        name: what the page calls it.
        limits: of memory and time.
        tiling: windows for longer pictures; None: the labeller's own, else for what would not fit in memory whole.
        about: what else `GET /model` says.
    """
    limits = limits or Limits()
    service = Service(labeller, limits, tiling)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.batches.start()
        yield
        await asyncio.to_thread(service.batches.close)

    app = FastAPI(
        title=f"ducseg: {name}", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan,
        redirect_slashes=False,  # to what the Host header says
    )  # fmt: skip
    app.add_middleware(
        Gate,
        path="/predict",
        places=limits.queue,
        timeout=limits.timeout,
        full=service.full,
        watch=service.metrics.in_hand,
    )
    app.add_middleware(_WithHeaders)
    _say_errors(app)
    _add_pages(app)

    @app.post("/predict", responses=RESPONSES, openapi_extra=PREDICT, response_class=Response)
    async def predict(request: Request) -> Response:
        """Label one picture, sent as a multipart form.

        - labels: PNG, one byte a pixel, the class's number
        - color: PNG in the classes' colours
        - overlay: PNG, the picture tinted, with a legend
        - confidence: PNG, one byte a pixel, the label's probability, 255 for 1
        - json: height, width and the area of each class
        - geojson: its regions as polygons, in pixels
        """
        return await service.predict(request)

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """What is served: its name, classes with their colours, the pictures that it takes, and the limits."""
        return {
            "name": name,
            "classes": [{"id": label, **entry} for label, entry in enumerate(labeller.classes.to_json())],
            "pixels": asdict(service.pixels),
            "confidence": service.confidence,
            "limits": asdict(limits),
            **(about or {}),
            "ducseg": __version__,
        }

    @app.get("/healthz", responses={503: {"description": "it cannot answer any more"}})
    async def healthz() -> Response:
        """Whether it answers."""
        alive = service.batches.alive
        return JSONResponse({"status": "ok" if alive else "down"}, 200 if alive else 503)

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


def _say_errors(app: FastAPI) -> None:
    """As {"error": ...}, whoever raises them."""

    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return said(error)

    async def standard(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        found = f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase.lower()}. See /docs."
        return said(Refusal(error.status_code, found, dict(error.headers or {})))

    async def no_memory(_request: Request, _error: Exception) -> Response:
        return said(Refusal(503, "memory: found too little; needed more. Try again, or send a smaller picture."))

    async def defect(_request: Request, _error: Exception) -> Response:
        return said(Refusal(500, "server: a defect; its log says more. Please report it."))

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, standard)
    app.add_exception_handler(MemoryError, no_memory)
    app.add_exception_handler(Exception, defect)


def _add_pages(app: FastAPI) -> None:
    """The page and its parts, each of them read once."""
    for file in sorted(_STATIC.iterdir()):
        paths = {"index.html": ["/"], "docs.html": ["/docs"]}.get(file.name, [f"/{file.name}"])
        for path in paths:
            app.add_api_route(path, _page(file.read_bytes(), _MEDIA[file.suffix]), include_in_schema=False)


def _page(body: bytes, media_type: str) -> Callable[[], Any]:
    async def page() -> Response:
        return Response(body, media_type=media_type)

    return page


class _WithHeaders:
    """Middleware: what browsers are told with every answer; HEAD gets that of GET, but for its body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = scope["type"] == "http" and scope["method"] == "HEAD"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"} if head else scope, receive, with_headers)
