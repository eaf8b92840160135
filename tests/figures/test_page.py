"""The page: one file, everything escaped, nothing fetched."""

import os
import re
from pathlib import Path

import cv2
import numpy as np

from ducseg.figures.evaluation_folder import read_samples, write_sample
from ducseg.figures.page import (
    Section,
    cards,
    commands,
    details,
    gallery,
    key,
    paragraph,
    picture,
    shaded_table,
    table,
    write_page,
)


def test_the_page_is_one_file_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((4, 4, 3), np.uint8))
    parts = (paragraph("a < b"), table(("class", "gain"), [("pole", "+1.0"), ("bus", "-2.0")], strong=(0,)))
    sections = [Section("What & why", (*parts, picture(tmp_path / "p.png", "four pixels")))]
    page = write_page(tmp_path / "r.html", "Title", "Lead", sections).read_text()
    assert "a &lt; b" in page
    assert "What &amp; why" in page
    assert page.count("data:image/png;base64,") == 1
    assert '<td class="good">+1.0' in page
    assert '<td class="bad">-2.0' in page
    assert 'src="p.png' not in page


def test_no_part_takes_markup_from_its_text(tmp_path: Path) -> None:
    evil = '<script>x</script>"&'
    rgb = np.zeros((3, 5, 3), np.uint8)
    parts = (
        cards([(evil, evil)]),
        commands([evil]),
        details(evil, paragraph(evil)),
        gallery([picture(rgb, evil), picture(rgb, evil, quality=80)]),
        key([(evil, (1, 2, 3))]),
        table((evil,), [(evil,)], is_text=True),
        shaded_table((evil, evil), [(evil, [(evil, 0.5)])], is_matrix=True),
    )
    page = write_page(tmp_path / "r.html", evil, evil, [Section(evil, parts)]).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 15
    assert "data:image/jpeg;base64," in page
    assert not re.search(r'(src|href)=(?!"data:)|url\(|@import', page), "something would be fetched"


def test_names_of_no_utf_8_are_shown_as_they_can_be(tmp_path: Path) -> None:
    name, grey = os.fsdecode(b"stra\xdfe"), np.zeros((3, 5), np.uint8)
    write_sample(tmp_path, 0, 7, name=name, image=np.stack([grey] * 3, 2), truth=grey, prediction=grey)
    (followed,) = read_samples(tmp_path)
    page = write_page(tmp_path / "r.html", "Title", followed.id, []).read_text(encoding="utf-8")
    assert followed.id == name and "stra?e" in page


def test_shades_are_between_none_and_full(tmp_path: Path) -> None:
    cells = [("a", 0.0), ("b", 2.0), ("c", float("nan"))]
    page = shaded_table(("", "x", "y", "z"), [("row", cells)])
    assert re.findall(r"var\(--shade\),([\d.]+)", page) == ["0.00", "0.55"]
