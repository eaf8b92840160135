"""Every answer is what the library says, bit for bit; and every route says what it is for."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_server import CLASSES, Held, Running, picture, png, predictor_of, serving, small_predictor, tiff

from ducseg.data.files.channels import Pixels, fill_undefined
from ducseg.data.files.reading import read_image
from ducseg.figures.label_maps import as_rgb, colourise, overlay
from ducseg.inference import windowed
from ducseg.inference.polygons import feature_collection
from ducseg.inference.predictor import Predictor
from ducseg.inference.tiles import Tiling


@pytest.mark.parametrize("size", [(37, 51), (1, 1), (64, 9)])
def test_pngs_are_the_librarys(server: Running, predictor: Predictor, size: tuple[int, int]) -> None:
    image = picture(*size)
    labels = predictor(image)
    expected = {
        "labels": labels,
        "color": colourise(labels, CLASSES),
        "overlay": overlay(image, labels, CLASSES),
        "confidence": np.rint(255 * predictor.probabilities(image).max(0)),
    }
    assert np.array_equal(server.predict(png(image)).picture, labels), "labels unless told"
    for kind, pixels in expected.items():
        found = server.predict(png(image), f"?answer={kind}")
        assert found.headers["Content-Type"] == "image/png"
        assert f"street_{kind}.png" in found.headers["Content-Disposition"]
        assert np.array_equal(found.picture, pixels), kind


def test_a_network_never_sees_the_value_for_no_data(tmp_path: Path) -> None:
    rasterio, predictor = pytest.importorskip("rasterio"), predictor_of(2, "float32")
    image = np.random.default_rng(0).random((33, 40, 2)).astype(np.float32)
    image[:9] = -9999
    how = {"driver": "GTiff", "height": 33, "width": 40, "count": 2, "dtype": "float32", "crs": "EPSG:32633"}
    with rasterio.open(
        tmp_path / "x.tif", "w", nodata=-9999, transform=rasterio.Affine(1, 0, 3, 0, -1, 6), **how
    ) as file:
        file.write(np.moveaxis(image, 2, 0))
    image[:9] = image[9:].mean((0, 1), dtype=np.float64)
    with serving(predictor) as running:
        found = running.predict((tmp_path / "x.tif").read_bytes(), name="x.tif").picture
    assert np.array_equal(found, predictor(image))


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (5, "uint16"), (3, "uint16"), (2, "float32")])
def test_a_network_of_other_pictures(channels: int, dtype: str) -> None:
    predictor = predictor_of(channels, dtype)
    values = np.random.default_rng(0).random((33, 40, channels))
    image = (values * {"uint8": 255, "uint16": 4000, "float32": 1}[dtype]).astype(dtype)
    labels = predictor(image)
    sent = image.copy()
    if dtype == "float32":
        sent[3, 4] = np.nan
        image = sent.copy()
        fill_undefined(image, "x")
        labels = predictor(image)
    with serving(predictor) as running:
        assert running.ask("GET", "/model").json["pixels"] == {"channels": channels, "dtype": dtype}
        assert np.array_equal(running.predict(tiff(sent), name="x.tif").picture, labels)
        assert np.array_equal(
            running.predict(tiff(sent), "?answer=overlay").picture, overlay(image, labels, predictor.classes)
        )
        found = running.predict(tiff(sent), "?answer=json&include=picture,confidence").json
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["picture"]))))
        assert np.array_equal(shown, as_rgb(image))
        refused = running.predict(png(picture()))
        assert (refused.status, "street.png" in refused.json["error"]) == (422, True)
        assert f"found 3 channels of uint8; needed {Pixels(channels, dtype)}" in refused.json["error"]
        assert running.predict(tiff(sent)[:900]).status == 422


def test_json_has_the_areas(server: Running, predictor: Predictor) -> None:
    image = picture()
    labels = predictor(image)
    found = server.predict(png(image), "?answer=json&include=labels,confidence&include=picture").json
    assert (found["height"], found["width"]) == (37, 51)
    assert [(one["id"], one["name"], tuple(one["color"])) for one in found["classes"]] == [
        (label, *named) for label, named in enumerate(zip(CLASSES.names, CLASSES.palette))
    ]
    assert [one["pixels"] for one in found["classes"]] == [int((labels == label).sum()) for label in range(5)]
    assert sum(one["share"] for one in found["classes"]) == pytest.approx(1)
    assert len({one["pixels"] for one in found["classes"]}) > 2, "else this test tells little"
    decoded = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(found[name]))))
        for name in ("labels", "confidence", "picture")
    }
    assert np.array_equal(decoded["labels"], labels)
    assert np.array_equal(decoded["confidence"], np.rint(255 * predictor.probabilities(image).max(0)))
    assert np.array_equal(decoded["picture"], image)
    assert "color" not in found


@pytest.mark.slow
def test_geojson_is_the_librarys(server: Running, predictor: Predictor) -> None:
    found = server.predict(png(picture()), answer="geojson")
    assert found.headers["Content-Type"] == "application/geo+json"
    assert found.json == json.loads(json.dumps(feature_collection(predictor(picture()), CLASSES)))


def test_options_stand_in_the_query_or_in_the_form_and_the_picture_in_any_field(server: Running) -> None:
    there = server.predict(png(picture()), "?answer=color")
    assert server.predict(png(picture()), answer="color", field="image").body == there.body


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_read_as_the_library_reads_it(
    server: Running, predictor: Predictor, orientation: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    shown = read_image(tmp_path / "turned.jpg")
    assert shown.shape[:2] == ((51, 37) if orientation > 4 else (37, 51))
    found = server.predict((tmp_path / "turned.jpg").read_bytes())
    assert np.array_equal(found.picture, predictor(shown))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_modes_are_read_as_the_library_reads_them(
    server: Running, predictor: Predictor, mode: str, tmp_path: Path
) -> None:
    Image.fromarray(picture()).convert(mode).save(tmp_path / "street.png")
    found = server.predict((tmp_path / "street.png").read_bytes())
    assert np.array_equal(found.picture, predictor(read_image(tmp_path / "street.png")))


@pytest.mark.parametrize("options", [{"scales": (0.5, 1.0), "flip": True}, {"bf16": True}])
def test_other_ways_to_look_are_the_librarys(options: dict[str, Any]) -> None:
    with serving(small_predictor(**options)) as server:
        assert np.array_equal(server.predict(png(picture())).picture, small_predictor(**options)(picture()))


@pytest.mark.slow
def test_longer_pictures_go_by_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    image, tiling = picture(96, 200), Tiling(64, 32)
    expected = small_predictor(tile=64, overlap=32)
    assert not np.array_equal(expected(image), small_predictor()(image)), "else this test tells nothing"
    with serving(small_predictor(), tiling=tiling) as server, serving(expected) as own:
        for one in (server, own):
            assert np.array_equal(one.predict(png(image)).picture, expected(image))
            sure = np.rint(255 * expected.probabilities(image).max(0))
            assert np.array_equal(one.predict(png(image), "?answer=confidence").picture, sure)
    monkeypatch.setattr(windowed, "_SMALL", 0)
    monkeypatch.setattr(windowed, "available_memory", lambda _device: 1 << 20)
    large = picture(1200, 1400)
    with serving(small_predictor()) as server:
        assert np.array_equal(server.predict(png(large)).picture, small_predictor(tile=1024)(large)), "memory is short"


def test_any_labeller_is_served() -> None:
    labeller = Held()
    labeller.go.set()
    with serving(labeller) as server:
        assert np.array_equal(server.predict(png(picture())).picture, labeller(picture()))


def test_the_model_is_described(server: Running) -> None:
    found = server.ask("GET", "/model").json
    assert found["name"] == "small"
    assert found["classes"][1] == {"id": 1, "name": "tree <b>", "color": [0, 140, 0]}
    assert found["limits"] == {
        "queue": 32, "batch_size": 4, "max_bytes": 32_000_000, "max_pixels": 25_000_000, "timeout": 60.0,
    }  # fmt: skip


def test_health_and_metrics(server: Running) -> None:
    assert server.ask("GET", "/healthz").json == {"status": "ok"}
    before = server.metric('ducseg_requests_total{status="200"}'), server.metric("ducseg_batch_pictures_sum")
    server.predict(png(picture()))
    assert server.metric('ducseg_requests_total{status="200"}') == before[0] + 1
    assert server.metric("ducseg_batch_pictures_sum") == before[1] + 1
    assert server.metric("ducseg_pictures_waiting") == server.metric("ducseg_requests_in_hand") == 0
    assert server.ask("GET", "/metrics").headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/", "/docs", "/page.js", "/model", "/healthz", "/metrics", "/openapi.json"])
def test_head_is_answered_as_get_without_the_body(server: Running, path: str) -> None:
    got, head = (server.ask(method, path) for method in ("GET", "HEAD"))
    assert (got.status, head.status, head.body) == (200, 200, b"")
    kinds = ("Content-Type", "Content-Security-Policy")
    assert [head.headers[kind] for kind in kinds] == [got.headers[kind] for kind in kinds]
    assert server.ask("HEAD", "/predict").status == 405
    assert server.ask("HEAD", "/nowhere").status == 404


def test_openapi_describes_predict(server: Running) -> None:
    described = server.ask("GET", "/openapi.json").json["paths"]
    assert set(described) == {"/predict", "/model", "/healthz", "/metrics"}
    predict = described["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"200", "400", "408", "413", "415", "422", "503", "504"} <= set(predict["responses"])
    assert [one["name"] for one in predict["parameters"]] == ["answer", "include"]


@pytest.mark.parametrize("path", ["/", "/docs", "/model", "/nowhere"])
def test_nothing_comes_from_elsewhere(server: Running, path: str) -> None:
    found = server.ask("GET", path)
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "http" not in policy
    assert found.headers["X-Content-Type-Options"] == "nosniff"
