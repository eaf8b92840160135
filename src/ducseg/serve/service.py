"""From a request to its answer: read, wait for a turn, answer or say why not."""

import asyncio
import math
import time
from collections.abc import Collection
from typing import cast, get_args
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ducseg.inference.labeller import Labeller
from ducseg.inference.tiles import Tiling
from ducseg.serve.answers import KINDS, Answer, Included, Kind, Label, PictureJob
from ducseg.serve.batches import Batches
from ducseg.serve.limits import Limits, Refusal
from ducseg.serve.metrics import Metrics
from ducseg.serve.network import Network
from ducseg.serve.upload import Upload, read_upload

__all__ = ["Service", "said"]


def said(refusal: Refusal) -> Response:
    """The response: {"error": one line}."""
    return JSONResponse({"error": " ".join(refusal.message.split())}, refusal.status, headers=refusal.headers)


class Service:
    """One network and all that want something of it.

    Attributes:
        confidence: whether it gives probabilities; an exported file may give labels alone.
        pixels: that it takes.
    """

    def __init__(self, labeller: Labeller, limits: Limits, tiling: Tiling | None) -> None:
        self.limits = limits
        self.metrics = Metrics(waiting=lambda: len(self.batches))
        network = Network(labeller, tiling, self.metrics.passed)
        self.confidence, self.pixels = network.gives_probabilities(), network.pixels
        self.batches = Batches[PictureJob](Label(network), most=limits.batch_size)

    async def predict(self, request: Request) -> Response:
        """The answer to `POST /predict`.

        Raises:
            Refusal: as `read_upload`; 422 an unknown answer or a picture that cannot be used; 504 no answer in time.
        """
        began = time.perf_counter()
        try:
            upload = await read_upload(request, self.limits)
            job = _job(upload, [*request.query_params.multi_items(), *upload.fields])
            found = await self._turn(request, job)
        except Refusal as refusal:
            self.metrics.answered.labels(refusal.status).inc()
            raise
        self.metrics.answered.labels(200).inc()
        self.metrics.seconds.observe(time.perf_counter() - began)
        name = quote(f"{upload.name.stem}_{job.kind}.{found.ending}")
        return Response(
            found.body, media_type=found.media_type, headers={"Content-Disposition": f"inline; filename*=UTF-8''{name}"}
        )

    def full(self) -> Response:
        """What is answered when every place is taken."""
        self.metrics.answered.labels(503).inc()
        wait = min(max(math.ceil(self.batches.seconds * len(self.batches)), 1), 60)
        refusal = Refusal.explained(
            503,
            "server",
            found=f"{self.limits.queue} pictures in hand",
            needed="a free place",
            fix=f"Try again in {wait} s.",
        )
        refusal.headers["Retry-After"] = str(wait)
        return said(refusal)

    async def _turn(self, request: Request, job: PictureJob) -> Answer:
        self.batches.add(job)
        gone = asyncio.create_task(_gone(request))
        future = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait((future, gone), timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
        finally:
            gone.cancel()
            self.batches.withdraw(job)
        raise Refusal.explained(
            504,
            "answer",
            found=f"none after {self.limits.timeout:g} s",
            needed="less work at a time",
            fix="Send a smaller picture, or try again when the server is less busy.",
        )


async def _gone(request: Request) -> None:
    """Returns when the client hangs up; what else it sends is nothing to us."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _job(upload: Upload, fields: list[tuple[str, str]]) -> PictureJob:
    """What is asked about a picture, in the query or in the form."""
    chosen: dict[str, list[str]] = {"answer": [], "include": []}
    for name, value in fields:
        _one_of("field", name, chosen)
        chosen[name] += value.split(",")
    for value in chosen["answer"]:
        _one_of("answer", value, KINDS)
    for value in chosen["include"]:
        _one_of("include", value, get_args(Included))
    if len(set(chosen["answer"])) > 1:
        raise Refusal.explained(422, "answer", found=chosen["answer"], needed="one", fix="Or json, with include.")
    kind = cast(Kind, (chosen["answer"] or ["labels"])[0])
    if chosen["include"] and kind != "json":
        raise Refusal.explained(422, "include", found=f"answer={kind}", needed="answer=json", fix="Ask for that.")
    return PictureJob(upload, kind, cast(tuple[Included, ...], tuple(dict.fromkeys(chosen["include"]))))


def _one_of(what: str, found: str, known: Collection[str]) -> None:
    if found not in known:
        raise Refusal.explained(422, what, found=repr(found), needed=f"one of {', '.join(known)}", fix="Correct it.")
