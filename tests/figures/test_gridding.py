from pathlib import Path

import cv2
import numpy as np
import pytest

from ducseg.cli import main
from ducseg.figures.gridding import draw_gridding
from ducseg.ops.hdc import check


def share_of_blue(path: Path) -> float:
    picture = cv2.imread(str(path)).astype(int)
    blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
    return float(((blue > 150) & (red < 80) & (green < 130)).mean())


def test_the_figure_shows_more_blue_without_holes(tmp_path: Path) -> None:
    holes, whole = (draw_gridding(rates, tmp_path / f"{rates[0]}.png") for rates in ([2, 2, 2], [1, 2, 3]))
    assert check([2, 2, 2]).receptive_field == check([1, 2, 3]).receptive_field
    assert share_of_blue(whole) > 1.5 * share_of_blue(holes) > 0


@pytest.mark.parametrize("rates", [[1], [1, 2, 5, 9], [5, 9, 17]])
def test_any_number_of_layers_draws(rates: list[int], tmp_path: Path) -> None:
    picture = cv2.imread(str(draw_gridding(rates, tmp_path / "figure.png")))
    assert picture.shape[0] > 300
    assert np.ptp(picture) > 200
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_the_command_prints_the_verdict_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "f.png"
    assert main(["hdc", "1", "2", "5", "9", "--figure", str(figure)]) == 0
    assert "covers its receptive field" in capsys.readouterr().out
    assert figure.is_file()
    assert main(["hdc", "2", "2", "2"]) == 1
    assert "leaves holes" in capsys.readouterr().out
