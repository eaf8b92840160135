"""The page in a real browser: Debian's chromium without a screen, driven by Playwright; skipped where there is none."""

import base64
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_server import CLASSES, Held, Running, picture, png, predictor_of, serving, tiff, until

from ducseg.classes import ClassSet
from ducseg.data.files.reading import read_image
from ducseg.errors import UserError
from ducseg.figures.label_maps import as_rgb, colourise
from ducseg.inference.polygons import feature_collection
from ducseg.inference.predictor import Predictor
from ducseg.serve import app

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

EXAMPLE = Path(app.__file__).parent / "static" / "example.jpg"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., "Visit"]]:
    """Opens the page of a server; at the end nothing was asked of anyone else and no script failed."""
    visits = []

    def open_page(server: Running, **options: Any) -> Visit:
        visits.append(Visit(browser.new_context(**options), server))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()
        assert not one.faults
        assert all(url.startswith((one.server.url, "blob:", "data:")) for url in one.asked), one.asked


class Visit:
    """A page that is looked at."""

    def __init__(self, context: Any, server: Running) -> None:
        self.context, self.server, self.page = context, server, context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.set_default_timeout(40_000)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self._heard(message.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{server.url}/")
        until(lambda: self.page.text_content("#takes"))

    def _heard(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.faults.append(text)

    def choose(self, data: bytes, name: str = "street.png") -> None:
        """A file by the button, and wait for the answer."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
        until(lambda: self.page.text_content("#title") == name and self.page.is_hidden("#busy"))
        until(lambda: self.page.get_attribute("#panel", "inert") is None)

    def refused(self, data: bytes, name: str) -> str:
        """The message about a file."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})
        self.page.wait_for_selector("#message:not([hidden])")
        until(lambda: self.page.is_hidden("#busy"))
        return str(self.page.text_content("#message"))

    def pixels(self, canvas: str) -> NDArray[np.uint8]:
        """RGBA (H, W, 4)."""
        script = """id => {
            const one = document.getElementById(id);
            const {data} = one.getContext("2d").getImageData(0, 0, one.width, one.height);
            let text = ""; for (const value of data) text += String.fromCharCode(value);
            return [one.height, one.width, btoa(text)];
        }"""
        height, width, text = self.page.evaluate(script, canvas)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)

    def slide(self, name: str, value: int) -> None:
        """By the keys, as a person without a mouse does."""
        self.page.focus(f"#{name}")
        self.page.keyboard.press("Home")
        for _ in range(value // 10):
            self.page.keyboard.press("PageUp")
        assert self.page.input_value(f"#{name}") == str(value)

    def saved(self, button: str) -> tuple[str, bytes]:
        """Name and bytes of a download."""
        with self.page.expect_download() as found:
            self.page.click(f"#{button}")
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()

    def style(self, name: str, of: str) -> str:
        return str(self.page.evaluate(f"getComputedStyle(document.getElementById('{name}')).{of}"))


def test_the_overlay_is_the_prediction(visit: Any, server: Running, predictor: Predictor) -> None:
    here = visit(server)
    here.choose(png(picture(120, 160)))
    labels = predictor(picture(120, 160))
    assert np.array_equal(here.pixels("picture")[..., :3], picture(120, 160))
    assert np.array_equal(here.pixels("overlay")[..., :3], colourise(labels, CLASSES))
    assert (here.pixels("overlay")[..., 3] == 255).all()
    counts = np.bincount(labels.ravel(), minlength=5)
    order = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    assert here.page.locator("#classes li label span:not(.share)").all_text_contents() == [
        CLASSES.names[label] for label in order
    ], "the largest first; names are text, whatever is in them"
    share = counts[order[0]] / labels.size
    assert here.page.locator("#classes .share").first.text_content() == f"{round(100 * share)} %"


@pytest.mark.slow
def test_the_example_is_there(visit: Any, server: Running, predictor: Predictor) -> None:
    here = visit(server)
    here.page.click("#example")
    here.page.wait_for_selector("#classes li")
    assert np.array_equal(here.pixels("overlay")[..., :3], colourise(predictor(read_image(EXAMPLE)), CLASSES))


@pytest.mark.parametrize("kind", ["turned.jpg", "street.tif", "street.webp"])
def test_what_browsers_show_otherwise_or_not_at_all(
    visit: Any, server: Running, predictor: Predictor, kind: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "turned.jpg" else 1
    Image.fromarray(picture(48, 80)).save(tmp_path / kind, exif=exif)
    here = visit(server)
    here.choose((tmp_path / kind).read_bytes(), kind)
    shown = read_image(tmp_path / kind)
    assert np.array_equal(here.pixels("overlay")[..., :3], colourise(predictor(shown), CLASSES))
    assert here.pixels("picture").shape[:2] == shown.shape[:2]
    assert np.abs(here.pixels("picture")[..., :3].astype(int) - shown).mean() < 3, "decoders of JPEG differ a little"


@pytest.mark.slow
def test_a_network_of_five_bands_is_shown_by_three(visit: Any) -> None:
    predictor = predictor_of(5, "uint16")
    image = np.random.default_rng(0).integers(0, 4000, (48, 80, 5), np.uint16)
    with serving(predictor) as running:
        here = visit(running)
        assert here.page.is_hidden("#example")
        assert "TIFF of 5 channels, uint16" in here.page.inner_text("#takes")
        here.choose(tiff(image), "bands.tif")
        labels = predictor(image)
        coloured = here.pixels("overlay")
        assert np.array_equal(coloured[..., 3] > 0, labels != predictor.classes.background)
        assert np.array_equal(here.pixels("picture")[..., :3], as_rgb(image))
        assert "found 3 channels of uint8" in here.refused(png(picture()), "street.png")


@pytest.mark.slow
def test_classes_are_switched(visit: Any, server: Running, predictor: Predictor) -> None:
    here = visit(server)
    here.choose(png(picture(120, 160)))
    labels = predictor(picture(120, 160))
    first = here.page.locator("#classes li").first
    label = int(first.get_attribute("data-id"))
    first.locator("input").focus()
    here.page.keyboard.press("Space")
    assert np.array_equal(here.pixels("overlay")[..., 3], np.where(labels == label, 0, 255))
    here.page.click("#none")
    assert not here.pixels("overlay").any()
    first.locator("label").click()
    assert np.array_equal(here.pixels("overlay")[..., 3], np.where(labels == label, 255, 0))
    here.page.click("#all")
    assert (here.pixels("overlay")[..., 3] == 255).all()


@pytest.mark.slow
def test_sliders(visit: Any, server: Running) -> None:
    here = visit(server)
    here.choose(png(picture(120, 160)))
    for value in (0, 30, 100):
        here.slide("opacity", value)
        assert float(here.style("overlay", "opacity")) == pytest.approx(value / 100)
    assert here.page.is_hidden("#line")
    here.slide("swipe", 50)
    width = here.page.evaluate("document.getElementById('stage').clientWidth")
    scale, left = here.page.evaluate("(m => [m.a, m.e])(new DOMMatrix(getComputedStyle(layers).transform))")
    cut = float(here.style("overlay", "clipPath").removesuffix("px)").split()[-1])
    assert cut == pytest.approx((width / 2 - left) / scale, abs=0.1), "left of the line is the picture alone"
    box = here.page.locator("#line").bounding_box()
    here.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    here.page.mouse.down()
    here.page.mouse.move(box["x"] + box["width"] / 2 + width / 4, box["y"] + 20)
    here.page.mouse.up()
    assert float(here.page.input_value("#swipe")) == pytest.approx(75, abs=1), "the line is dragged too"


@pytest.mark.slow
def test_zoom_pan_and_what_is_under_the_mouse(visit: Any, server: Running, predictor: Predictor) -> None:
    here = visit(server)
    image = picture(120, 160)
    here.choose(png(image))
    labels, sure = predictor(image), predictor.probabilities(image).max(0)

    def place() -> list[float]:
        return here.page.evaluate("(m => [m.a, m.e, m.f])(new DOMMatrix(getComputedStyle(layers).transform))")

    def told(x: int, y: int) -> str:
        return f"{CLASSES.names[labels[y, x]]}, {round(100 * round(255 * float(sure[y, x])) / 255)} % sure, at {x}, {y}"

    box = here.page.locator("#stage").bounding_box()
    for x, y in [(0, 0), (159, 119), (80, 33)]:
        scale, left, top = place()
        here.page.mouse.move(box["x"] + 1 + left + (x + 0.5) * scale, box["y"] + 1 + top + (y + 0.5) * scale)
        assert here.page.text_content("#readout") == told(x, y)
        assert here.page.locator("#classes li.here").get_attribute("data-id") == str(labels[y, x])
    whole = place()
    here.page.mouse.wheel(0, -300)
    assert place()[0] > whole[0]
    assert here.page.text_content("#readout") == told(80, 33), "what is under the mouse stays there"
    here.page.mouse.down()
    before = place()
    here.page.mouse.move(box["x"] + 200, box["y"] + 200)
    here.page.mouse.up()
    assert place()[1:] != before[1:]
    here.page.click("#fit")
    assert place() == pytest.approx(whole, abs=0.01)
    here.page.click("#one")
    assert place()[0] == 1
    here.page.click("#in")
    assert place()[0] == 1.5


def test_the_keys_do_all(visit: Any, server: Running, predictor: Predictor) -> None:
    """Tab to the example, take it; the stage by arrows, plus, minus, 0 and 1, told aloud."""
    here = visit(server)
    for _ in range(6):
        here.page.keyboard.press("Tab")
        if here.page.evaluate("document.activeElement.id") == "example":
            break
    here.page.keyboard.press("Enter")
    here.page.wait_for_selector("#classes li")
    labels = predictor(read_image(EXAMPLE))
    here.page.focus("#stage")
    here.page.keyboard.press("1")
    middle = here.page.text_content("#readout")
    here.page.keyboard.press("ArrowRight")
    moved = here.page.text_content("#readout")
    (x, y), (across, down) = ([int(n) for n in text.split("at ")[1].split(", ")] for text in (middle, moved))
    assert (across, down) == (x + 40, y)
    assert moved.startswith(CLASSES.names[labels[down, across]])
    assert here.page.get_attribute("#readout", "aria-live") == "polite"
    assert here.style("cross", "display") == "block"
    for key, way in (("+", 1.25), ("-", 1.0)):
        here.page.keyboard.press(key)
        assert here.page.evaluate("new DOMMatrix(getComputedStyle(layers).transform).a") == pytest.approx(way)
    reached = set()
    for _ in range(40):
        here.page.keyboard.press("Tab")
        reached.add(here.page.evaluate("document.activeElement.id"))
    assert {"in", "fit", "opacity", "swipe", "all", "none", "mask", "colours", "polygons"} <= reached


def test_downloads(visit: Any, server: Running, predictor: Predictor) -> None:
    here = visit(server)
    here.choose(png(picture(60, 80)), "my street.png")
    here.page.click("#none")  # what is switched off for looking is not lost
    labels = predictor(picture(60, 80))
    name, data = here.saved("mask")
    assert name == "my street_labels.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), labels)
    name, data = here.saved("colours")
    assert name == "my street_color.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), colourise(labels, CLASSES))
    name, data = here.saved("polygons")
    assert name == "my street.geojson"
    assert json.loads(data) == json.loads(json.dumps(feature_collection(labels, CLASSES)))


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_drop_and_paste(visit: Any, server: Running, predictor: Predictor, how: str) -> None:
    here = visit(server)
    data = list(png(picture(40, 50)))
    give = """([how, data]) => {
        const files = new DataTransfer();
        if (data) files.items.add(new File([new Uint8Array(data)], "given.png", {type: "image/png"}));
        const event = how === "drop" ? new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: files, bubbles: true});
        document.body.dispatchEvent(event);
    }"""
    here.page.evaluate(give, [how, None])
    assert here.page.is_visible("#message"), "no file in it"
    here.page.evaluate(give, [how, data])
    here.page.wait_for_selector("#classes li")
    assert np.array_equal(here.pixels("overlay")[..., :3], colourise(predictor(picture(40, 50)), CLASSES))
    assert here.page.is_hidden("#message")


@pytest.mark.slow
def test_what_cannot_be_read_is_said_and_the_picture_before_stays(visit: Any, predictor: Predictor) -> None:
    with serving(predictor, max_bytes=100_000, max_pixels=10_000) as server:
        here = visit(server)
        assert "a PDF" in here.refused(b"%PDF-1.7", "notes.pdf")
        assert here.page.is_visible("#start")
        here.choose(png(picture(60, 80)))
        assert here.page.is_hidden("#message")
        assert "0 bytes" in here.refused(b"", "empty.png")
        assert "0.2 MB; this server takes up to 0.1 MB" in here.refused(bytes(200_000), "large.png")
        assert "megapixels" in here.refused(png(np.zeros((101, 100, 3), np.uint8)), "many.png"), "a preview went before"
        assert here.page.text_content("#title") == "street.png"
        assert np.array_equal(here.pixels("overlay")[..., :3], colourise(predictor(picture(60, 80)), CLASSES))
    assert "does not answer" in here.refused(png(picture()), "late.png")


@pytest.mark.slow
def test_a_busy_server_is_asked_again(visit: Any) -> None:
    labeller = Held()
    with serving(labeller, queue=1) as server:
        other = threading.Thread(target=server.predict, args=(png(picture(9, 9)),))
        other.start()
        assert labeller.asked.acquire(timeout=10)
        here = visit(server)
        here.page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(picture())})
        until(lambda: "again in 1 s" in here.page.text_content("#busy"))
        labeller.go.set()
        other.join()
        here.page.wait_for_selector("#classes li")
        assert here.page.is_hidden("#message")


def test_without_probabilities_there_is_no_confidence(visit: Any) -> None:
    class LabelsAlone(Held):
        def probabilities(self, image: Any, /) -> Any:
            raise UserError("an exported file of labels")

    labeller = LabelsAlone()
    labeller.go.set()
    with serving(labeller) as server:
        here = visit(server)
        here.choose(png(picture(60, 80)))
        here.page.focus("#stage")
        here.page.keyboard.press("0")
        assert here.page.text_content("#readout").endswith(", at 40, 30")
        assert "sure" not in here.page.text_content("#readout")


@pytest.mark.slow
def test_the_background_is_clear_until_it_is_switched_on(visit: Any) -> None:
    class Cracks(Held):
        def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
            return np.asarray(image[..., 0] > 128, np.uint8)

    labeller = Cracks()
    labeller.classes = ClassSet(("background", "crack"), ((0, 0, 0), (255, 0, 0)))
    with serving(labeller) as server:
        here = visit(server)
        assert here.page.text_content("#about") == "finds crack in a picture, pixel by pixel"
        here.choose(png(picture(60, 80)))
        labels = labeller(picture(60, 80))
        assert np.array_equal(here.pixels("overlay")[..., 3], 255 * labels)
        assert not here.page.is_checked("#classes li[data-id='0'] input")
        here.page.click("#all")
        assert np.array_equal(here.pixels("overlay")[..., :3], colourise(labels, labeller.classes))
        assert (here.pixels("overlay")[..., 3] == 255).all()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_not_scrolled_sideways_and_words_are_readable(visit: Any, server: Running, scheme: str) -> None:
    here = visit(server, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    here.choose(png(picture(120, 160)), "a-very-long-name-of-a-picture-that-nobody-would-give-but-cameras-do.png")
    assert here.page.evaluate("document.documentElement.scrollWidth") == 390
    assert here.page.locator("#stage").bounding_box()["height"] < 600
    for name in ("name", "about", "takes", "readout", "absent", "mask", "title", "message"):
        assert here.page.evaluate(CONTRAST, name) >= 4.5, name
    for button in here.page.locator("#result button, #result .button").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 24, "WCAG 2.5.8"


@pytest.mark.slow
def test_where_nothing_can_be_dropped_nothing_is_said_of_it(visit: Any, server: Running) -> None:
    for touch in (False, True):
        here = visit(server, has_touch=touch, is_mobile=touch)
        assert here.page.is_visible("text=Drop a picture here") is not touch
        assert here.page.is_visible("text=See what is in a picture") is touch
        assert here.page.text_content("#about") == "finds 5 classes in a picture, pixel by pixel"


CONTRAST = """id => {
    const rgb = text => text.match(/[0-9.]+/g).map(Number);
    let back = document.getElementById(id);
    const ink = rgb(getComputedStyle(back).color);
    while (rgb(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement;
    const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
    const [a, b] = [light(ink), light(rgb(getComputedStyle(back).backgroundColor))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
}"""


@pytest.mark.slow
def test_fingers_zoom(visit: Any, server: Running) -> None:
    here = visit(server, has_touch=True)
    here.choose(png(picture(120, 160)))
    before = here.page.evaluate("new DOMMatrix(getComputedStyle(layers).transform).a")
    session = here.context.new_cdp_session(here.page)
    box = here.page.locator("#stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def fingers(kind: str, *apart: float) -> None:
        points = [
            {"x": middle[0] + side * way, "y": middle[1], "id": n} for way in apart for n, side in enumerate((-1, 1))
        ]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 40)
    fingers("touchMove", 60)
    fingers("touchMove", 80)
    fingers("touchEnd")
    assert here.page.evaluate("new DOMMatrix(getComputedStyle(layers).transform).a") == pytest.approx(
        2 * before, rel=0.05
    )


def test_the_page_for_programs(visit: Any, server: Running) -> None:
    here = visit(server)
    here.page.click("header a")
    here.page.wait_for_selector("#routes h2")
    assert here.page.locator("#routes h2").all_text_contents()[0] == "POST /predict"
    assert f"curl -F picture=@street.jpg -o labels.png {server.url}/predict" in here.page.text_content("#examples")


@pytest.mark.slow
def test_a_large_picture(visit: Any, predictor: Predictor) -> None:
    """12 megapixels, as a telephone takes them."""
    large = np.asarray(cv2.resize(picture(300, 400), (4000, 3000)), np.uint8)
    file = io.BytesIO()
    Image.fromarray(large).save(file, "jpeg", quality=60)

    class Stripes(Held):
        def __call__(self, image: NDArray[np.uint8], /) -> NDArray[np.uint8]:
            return np.asarray(np.arange(image.shape[1]) // 100 % 5 + 0 * image[..., 0], np.uint8)

    with serving(Stripes()) as server:
        here = visit(server)
        here.choose(file.getvalue(), "phone.jpg")
        assert here.page.evaluate("document.getElementById('overlay').width") == 4000
        assert here.page.locator("#classes li").count() == 5
        until(lambda: here.page.text_content("#readout") == "4000 × 3000 pixels")
