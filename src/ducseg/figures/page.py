"""One self-contained HTML page from text, tables and pictures: nothing to fetch, no script, opens anywhere.

It follows the reader's light or dark scheme, fits a telephone (wide tables scroll by themselves) and says nothing by
hue alone. Everything that is given is text, except `parts`, which come from the functions here.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.files import write_whole

__all__ = [
    "Section", "cards", "commands", "details", "gallery", "key", "paragraph", "picture", "shaded_table", "table",
    "write_page",
]  # fmt: skip

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --paper: #fff; --line: #8885; --soft: #8881; --good: #0b62a8;
  --bad: #a64b00; --shade: 38, 112, 190; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ec; --paper: #15181d; --good: #6fb4f2; --bad: #f0a35e;
  --shade: 90, 160, 235; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem; color: var(--ink);
  background: var(--paper); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 1rem 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p.lead { font-size: 1.1rem; margin-top: 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.cards div { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; }
.cards b { display: block; font-size: 1.35rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.cards span { font-size: .85rem; opacity: .8; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
table.text td { text-align: left; vertical-align: top; }
tr.strong td { font-weight: 600; background: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); }
table.shaded th:not(:first-child) { text-align: center; }
td.s { min-width: 3.2rem; text-align: center; border: 1px solid var(--line); }
table.matrix th:not(:first-child) { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
figure { margin: .75rem 0; } img { max-width: 100%; height: auto; background: #fff; display: block; }
figcaption { font-size: .88rem; opacity: .85; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--least)), 1fr)); gap: .8rem; }
.gallery figure { margin: 0; } .gallery img { width: 100%; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; padding: 0; font-size: .93rem; }
.key i { display: inline-block; width: .9em; height: .9em; border: 1px solid #777; margin-right: .4em;
  vertical-align: -.08em; }
pre { background: var(--soft); border-radius: .4rem; padding: .7rem .9rem; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .88rem; }
summary { cursor: pointer; font-weight: 600; margin: .5rem 0; }
@media (max-width: 40rem) { body { padding: .7rem; } th, td { padding: .25rem .45rem; } table { font-size: .85rem; } }
@media print { .wide { overflow: visible; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Section:
    """A heading and the HTML below it, from the functions of this file."""

    title: str
    parts: tuple[str, ...]


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def cards(values: Sequence[tuple[str, str]]) -> str:
    """A few numbers in large letters: (what it is, its value)."""
    boxes = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in values)
    return f'<div class="cards">{"".join(boxes)}</div>'


def details(title: str, *parts: str, is_open: bool = False) -> str:
    """Parts that open below a line."""
    return f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def commands(lines: Sequence[str]) -> str:
    """Lines for a shell."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, strong: Sequence[int] = (), is_text: bool = False
) -> str:
    """A table of plain text.

    Args:
        strong: rows that stand out.
        is_text: cells are words, to the left; else numbers, to the right, and those that begin with + or - are coloured
            as gain or loss.
    """
    cell = (lambda text: f"<td>{escape(text)}</td>") if is_text else _signed
    body = "".join(
        f"<tr{' class=strong' if index in strong else ''}>{''.join(map(cell, row))}</tr>"
        for index, row in enumerate(rows)
    )
    return _framed("text" if is_text else "", header, body)


def shaded_table(
    header: Sequence[str], rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, is_matrix: bool = False
) -> str:
    """A table whose cells are shaded.

    Args:
        rows: name, and each cell's text with its shade, 0 to 1; NaN: none.
        is_matrix: column heads stand upright.
    """
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_shaded(*cell) for cell in cells)}</tr>" for name, cells in rows
    )
    return _framed("shaded matrix" if is_matrix else "shaded", header, body)


def _framed(kind: str, header: Sequence[str], body: str) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _signed(text: str) -> str:
    kind = {"+": ' class="good"', "-": ' class="bad"', "−": ' class="bad"'}.get(text[:1], "") if len(text) > 1 else ""
    return f"<td{kind}>{escape(text)}</td>"


def _shaded(text: str, shade: float) -> str:
    style = "" if shade != shade else f' style="background:rgba(var(--shade),{0.55 * min(max(shade, 0), 1):.2f})"'
    return f'<td class="s"{style}>{escape(text)}</td>'


def picture(source: Path | NDArray[np.uint8], caption: str, *, quality: int | None = None) -> str:
    """A PNG file, or RGB (H, W, 3), embedded, with its caption; an array as PNG, or as JPEG of this quality."""
    data, kind = (source.read_bytes(), "png") if isinstance(source, Path) else _encoded(source, quality)
    text = escape(caption)
    embedded = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img src="data:image/{kind};base64,{embedded}" alt="{text}"><figcaption>{text}</figcaption></figure>'
    )


def _encoded(rgb: NDArray[np.uint8], quality: int | None) -> tuple[bytes, str]:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = (
        cv2.imencode(".png", bgr) if quality is None else cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    )
    assert done, rgb.shape
    return data.tobytes(), "png" if quality is None else "jpeg"


def gallery(figures: Sequence[str], *, least: int = 260) -> str:
    """Pictures side by side, as many as fit at `least` pixels each, in rows."""
    return f'<div class="gallery" style="--least:{least}px">{"".join(figures)}</div>'


def key(entries: Sequence[tuple[str, tuple[int, int, int]]]) -> str:
    """What colours mean: names and RGB."""
    items = (f'<li><i style="background:rgb{colour}"></i>{escape(name)}</li>' for name, colour in entries)
    return f'<ul class="key">{"".join(items)}</ul>'


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        UserError: the folder is not writable or the disk is full.
    """
    body = "".join(
        f"<section><h2>{escape(section.title)}</h2>{''.join(section.parts)}</section>" for section in sections
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
        f'<p class="lead">{escape(lead)}</p>{body}</html>\n'
    )
    write_whole(path, page.encode(errors="replace"))
    return path
