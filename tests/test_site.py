"""The site of `make docs`: built without a warning, with every name and option; it asks for nothing outside."""

import ast
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ducseg.cli import COMMANDS
from ducseg.ops import hdc

REPOSITORY = Path(__file__).resolve().parents[1]
SITE = REPOSITORY / "docs" / "site"


def _hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks", SITE / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation() -> None:
    nav = re.findall(r": (\S+\.md)", (REPOSITORY / "mkdocs.yml").read_text().partition("\nnav:")[2])
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")}
    assert not pages - set(nav) and len(nav) == len(set(nav))


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node: the page's arithmetic is not compared")
    return found


def test_the_designer_counts_as_the_library_does(node: str) -> None:
    """Every schedule of up to three rates from 1 to 6, and the paper's own."""
    schedules = [list(rates) for length in (1, 2, 3) for rates in product(range(1, 7), repeat=length)]
    asked = [[rates, kernel] for rates in schedules for kernel in (2, 3, 5)]
    asked += [[rates, 3] for rates in ([1, 2, 5, 9], [9, 3, 1], [2, 2, 2, 2], [5, 9, 17], [1] * 8, [40, 40], [1, 2, 9])]
    script = (
        "require(process.argv[1]); const { check, wayOut } = globalThis.ducsegCoverage;"
        "const asked = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const both = ([r, k]) => { const found = check(r, k); return [found, found.ok ? null : wayOut(r, k)]; };"
        "console.log(JSON.stringify(asked.map(both)))"
    )
    run = subprocess.run(
        [node, "-e", script, str(SITE / "coverage.js")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    for (rates, kernel), (found, out) in zip(asked, json.loads(run.stdout), strict=True):
        assert found == vars(hdc.check(rates, kernel)), (rates, kernel)
        if out is not None:
            shown = (
                f"{len(rates)} layers: {', '.join(map(str, out['rates']))} (receptive field {out['receptive_field']})"
            )
            assert hdc.report(rates, kernel).endswith(shown), (rates, kernel)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder: Path = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    run = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def article(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]


def exported() -> set[str]:
    """What the modules of all rooms but the command line list as theirs for others."""
    files = [file for file in (REPOSITORY / "src" / "ducseg").rglob("*.py") if "cli" not in file.parts]
    nodes = [node for file in files for node in ast.parse(file.read_text()).body if isinstance(node, ast.Assign)]
    lists = [ast.literal_eval(node.value) for node in nodes if ast.unparse(node.targets[0]) == "__all__"]
    return {name for names in lists for name in names} - {"__version__"}


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(built: Path) -> None:
    hooks = _hooks()
    for room in hooks.rooms():
        there = set(re.findall(r'id="(ducseg[\w.]*)"', article(built / "reference" / f"{room}.html")))
        assert not {f"{module}.{name}" for module, names in hooks.modules(room).items() for name in names} - there
    assert not exported() - {name for room in hooks.rooms() for names in hooks.modules(room).values() for name in names}
    assert "ducseg.load" in re.findall(r'id="([\w.]+)"', article(built / "reference" / "ducseg.html"))


@pytest.mark.slow
def test_every_command_and_option_is_in_the_reference(built: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", article(built / "reference" / "commands.html")))
    assert not [name for name in COMMANDS if f"usage: ducseg {name}" not in text]
    options = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", (REPOSITORY / "tests/cli/help_snapshot.txt").read_text()))
    assert not options - set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", text)) and "│" not in text


@pytest.mark.slow
def test_no_markdown_is_left_in_a_paragraph(built: Path) -> None:
    """Lists and tables that need an empty line before them, links that lead nowhere."""
    for page in built.rglob("*.html"):
        text = re.sub(r"<(pre|code|form)\b.*?</\1>", "", article(page), flags=re.DOTALL)
        lines = [line for part in re.findall(r"<p>(.*?)</p>", text, re.DOTALL) for line in part.splitlines()]
        assert not [line for line in lines if re.match(r"\s*([-*|] |\|)|```", line)], page
        assert "](" not in re.sub(r"<[^>]+>", "", text), page


@pytest.mark.slow
def test_links_and_figures_lead_somewhere(built: Path) -> None:
    """And a figure leads to itself alone, where a telephone can enlarge it."""
    figures = 0
    for page in built.rglob("*.html"):
        text = article(page)
        for link in re.findall(r'\b(?:href|src)="?([^"#\s>]+)', text):
            assert link.startswith(("http", "data:", "mailto:")) or (page.parent / link).exists(), f"{page}: {link}"
        pictures = re.findall(r'<img [^>]*src="?([^"\s>]+)', text)
        assert all(re.search(rf'<a [^>]*href="?{re.escape(place)}"?[^>]*><img', text) for place in pictures)
        figures += len(pictures)
    assert figures > 15


@pytest.mark.slow
def test_no_page_names_a_script_or_style_elsewhere(built: Path) -> None:
    for page in built.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="?([^"\s>]+)', page.read_text(encoding="utf-8"))
        loaded += re.findall(r'<link[^>]*rel="?(?:stylesheet|preconnect|icon)[^>]*href="([^"]+)', page.read_text())
        assert loaded and not [address for address in loaded if "//" in address and not address.startswith("data:")]


PAGES = (
    "index",
    "start",
    "thin",
    "designer",
    "gridding",
    "operations",
    "training",
    "RESULTS",
    "reference/commands",
    "reference/ops",
    "networks/cracks",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    place = shutil.which("chromium")
    if place is None:
        pytest.skip("no chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_ask_for_nothing_outside(built: Path, chromium: Any, width: int, scheme: Any) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page, asked, faults = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    for name in PAGES:
        page.goto((built / f"{name}.html").as_uri())
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
        assert page.locator("article h1").count() == 1, name
        dark = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).slice(0, 3).every(c => c < 80)"
        )
        assert dark == (scheme == "dark"), name
    context.close()
    assert not faults
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.slow
def test_search_finds_and_the_designer_draws(built: Path, chromium: Any) -> None:
    page = chromium.new_page()
    page.goto((built / "index.html").as_uri())
    page.locator("input[name=query]").fill("fold_labels")
    page.locator(".md-search-result__item a[href*='reference/ops.html']").first.wait_for()
    page.goto((built / "designer.html").as_uri())
    assert "120 holes" in page.locator("#designer output").inner_text()
    page.locator("#designer [name=rates]").fill("1 2 5")
    assert "no gridding" in page.locator("#designer output").inner_text()
    assert page.evaluate("document.querySelector('#designer canvas').width") == 17
    page.locator("#designer [name=rates]").fill("1 x")
    assert "Whole rates" in page.locator("#designer output").inner_text()
    page.close()
