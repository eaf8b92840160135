"""Accuracy against time: every point is drawn, in each panel, in formats for print and screen."""

from pathlib import Path

import pytest

from ducseg.errors import UserError
from ducseg.figures.trade_off import Point, draw_trade_off

SCORES = {"mean IoU": (56.0, 0.5), "thin": (30.0, None)}
POINTS = [
    Point(series=head, label=f"stride {stride}", ms=400 / stride, scores=SCORES)
    for head in ("bilinear", "duc")
    for stride in (8, 16, 32)
]


def test_every_point_is_named_in_every_panel(tmp_path: Path) -> None:
    path = draw_trade_off(POINTS, tmp_path / "figure.svg", title="CamVid", time="360x480")
    assert path.read_text(encoding="utf-8").count("<!-- stride 16 -->") == 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_for_screen_and_print(tmp_path: Path, suffix: str) -> None:
    assert draw_trade_off(POINTS, tmp_path / f"figure{suffix}", title="t", time="360x480").stat().st_size > 3000


def test_without_a_point_there_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row with scores and a time"):
        draw_trade_off([], tmp_path / "figure.png", title="t", time="")
