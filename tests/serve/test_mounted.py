"""In another application, or below a prefix; names in any charset; no redirects."""

from typing import Any

import pytest
from small_server import Held, Running, form, in_threads, listening, picture, png, small_predictor, until

fastapi = pytest.importorskip("fastapi")


def _mounted(labeller: Any, **limits: Any) -> Any:
    from ducseg.serve.app import create_app
    from ducseg.serve.limits import Limits

    outer = fastapi.FastAPI()
    outer.mount("/streets", create_app(labeller, limits=Limits(**limits)))
    return outer


def test_a_mounted_server_answers() -> None:
    """Whoever mounts it does not tell it that it begins."""
    with listening(_mounted(small_predictor(), timeout=20)) as server:
        assert server.ask("GET", "/streets/healthz").json == {"status": "ok"}
        assert server.ask("POST", "/streets/predict", *form(png(picture()))).picture.shape == (37, 51)
        assert server.ask("GET", "/streets/healthz").json == {"status": "ok"}


def test_a_mounted_server_is_bounded() -> None:
    labeller = Held()
    with listening(_mounted(labeller, queue=2)) as server:

        def ask(number: int) -> int:
            return server.ask("POST", "/streets/predict", *form(png(picture(20 + number, 30)))).status

        def ask_or_watch(number: int) -> int:
            if number < 2:
                return ask(number)
            try:
                until(lambda: b"ducseg_requests_in_hand 2.0" in server.ask("GET", "/streets/metrics").body)
                return ask(number)
            finally:
                labeller.go.set()

        assert in_threads(3, ask_or_watch) == [200, 200, 503]


@pytest.mark.parametrize("charset, name", [("unicode_escape", rb"\ud800"), ("utf-7", b"+2AA-"), ("undefined", b"x")])
@pytest.mark.parametrize("data", [png(picture()), b"no picture"])
def test_names_in_any_charset(server: Running, charset: str, name: bytes, data: bytes) -> None:
    body, headers = form(data, name="NAME")
    headers["Content-Type"] += f"; charset={charset}"
    found = server.ask("POST", "/predict", body.replace(b"NAME", name), headers)
    assert found.status == (400 if charset == "undefined" else 200 if data.startswith(b"\x89") else 415)


def test_nobody_is_sent_elsewhere(server: Running) -> None:
    """A redirect would lead to what the Host header says."""
    for method, path in (("GET", "/model/"), ("POST", "/predict/"), ("GET", "/healthz/")):
        found = server.ask(method, path, headers={"Host": "elsewhere.example"})
        assert (found.status, found.headers["Location"]) == (404, None)
