"""One self-contained HTML page from tables and pictures: nothing to fetch, opens anywhere, prints well."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ducseg.files import write_whole

__all__ = ["Section", "paragraph", "picture", "table", "write_report"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #1a7f37; --bad: #b35900; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
p.lead { font-size: 1.1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
tr.strong td { font-weight: 600; background: var(--soft); }
tr.rule td { border-top: 2px solid currentColor; }
.good { color: var(--good); } .bad { color: var(--bad); }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #e09b3d; } }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: #fff; }
figcaption { font-size: .9rem; opacity: .8; }
"""


@dataclass(frozen=True)
class Section:
    """A heading and the HTML below it (from `paragraph`, `table` and `picture`)."""

    title: str
    parts: tuple[str, ...]


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Sequence[int] = ()) -> str:
    """A table of plain text; rows in `strong` stand out; cells that begin with + or - are coloured as gain or loss."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr{' class=strong' if index in strong else ''}>{''.join(map(_cell, row))}</tr>"
        for index, row in enumerate(rows)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    kind = {"+": ' class="good"', "-": ' class="bad"', "−": ' class="bad"'}.get(text[:1], "") if len(text) > 1 else ""
    return f"<td{kind}>{escape(text)}</td>"


def picture(path: Path, caption: str) -> str:
    """A PNG file, embedded, with its caption."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def write_report(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all, and return its path."""
    body = "".join(f"<h2>{escape(section.title)}</h2>{''.join(section.parts)}" for section in sections)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p>{body}</html>\n'
    )
    write_whole(path, page.encode())
    return path
