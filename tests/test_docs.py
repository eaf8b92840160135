"""The documentation is whole: links lead somewhere, every page is in the reading order, every command in the README."""

import re
from pathlib import Path

import pytest

from ducseg.cli import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]


def links(page: Path) -> list[str]:
    """Where a page's links lead in the repository."""
    found = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [link for link in found if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert not [link for link in links(page) if not (page.parent / link).exists()]


def test_every_page_is_in_the_reading_order() -> None:
    pages = {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"}
    assert not pages - set(links(REPOSITORY / "docs" / "README.md"))


def test_every_command_is_in_the_readme() -> None:
    table = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    shown = set()
    for words in re.findall(r"`ducseg ([^`]+)`", table):
        name, *rest = words.replace("\\|", "|").split()
        shown |= {name, *(f"{name} {below}" for below in (rest or [""])[0].split("|"))}
    assert not COMMANDS.keys() - shown
