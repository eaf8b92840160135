"""Names of folders and classes are letters, wherever they are shown."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from test_report import make_run

from ducseg.classes import ClassSet
from ducseg.figures.plots import as_letters
from ducseg.figures.report import write_report

STRANGE = ("_background_", "$x^$", "<img src=x onerror=alert(1)>")


def test_a_report_of_strange_names(tmp_path: Path) -> None:
    classes = ClassSet(STRANGE, ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
    runs = [make_run(tmp_path / name, classes) for name in STRANGE]
    page = write_report(runs, tmp_path / "report.html").read_text()
    assert "<img src=x" not in page
    assert "<h3>&lt;img src=x" in page


@pytest.mark.parametrize("name", [*STRANGE, "$a$", r"\$", "a$b$c", "__"])
def test_matplotlib_shows_every_letter(name: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], label=as_letters(name))
    figure.legend()
    figure.canvas.draw()
    (shown,) = figure.legends[0].get_texts()
    text, is_mathematics = shown._preprocess_math(shown.get_text())
    assert (text.lstrip("\N{ZERO WIDTH SPACE}"), is_mathematics) == (name, False)
