from pathlib import Path

import cv2
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.figures.panels import draw_panels


def test_panels_show_pictures_labels_and_a_legend(tmp_path: Path) -> None:
    image = np.full((30, 40, 3), 200, np.uint8)
    label = np.full((30, 40), 3, np.uint8)
    label[:, 20:] = 255
    path = draw_panels(
        [[image, label], [image, label]], tmp_path / "p.png", ("image", "truth"), CAMVID, panel_width=200
    )
    drawn = cv2.imread(str(path))[..., ::-1]
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3)}
    assert {(200, 200, 200), CAMVID.palette[3], (0, 0, 0)} <= colours
    assert CAMVID.palette[0] not in colours, "the legend names the classes that occur"
    assert drawn.shape[0] > 2 * 150
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]


def test_rows_that_do_not_fit_the_titles_are_refused(tmp_path: Path) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    with pytest.raises(UserError, match=r"row of 1.*rows of 2"):
        draw_panels([[image]], tmp_path / "p.png", ("a", "b"), CAMVID)
    with pytest.raises(UserError, match="no row"):
        draw_panels([], tmp_path / "p.png", ("a",), CAMVID)


def test_the_width_is_the_pictures_own_or_made_readable(tmp_path: Path) -> None:
    for width, expected in ((480, 480), (256, 512), (320, 320), (40, 320), (2048, 640), (1, 320)):
        label = np.full((30, width), 3, np.uint8)
        draw_panels([[label, label]], tmp_path / "p.png", ("a", "b"), CAMVID)
        assert cv2.imread(str(tmp_path / "p.png")).shape[1] == 2 * (expected + 4), width


def test_poles_one_pixel_wide_survive_shrinking(tmp_path: Path) -> None:
    label = np.zeros((256, 2048), np.uint8)
    poles = np.arange(50, 2000, 50)
    label[:, poles] = 8
    draw_panels([[label]], tmp_path / "p.png", ("truth",), CAMVID)
    row = cv2.imread(str(tmp_path / "p.png"))[60, :640, ::-1].astype(int)
    assert (np.abs(row - CAMVID.palette[0]).sum(1) > 20).sum() >= len(poles)


def test_what_is_ignored_is_named_only_where_it_is(tmp_path: Path) -> None:
    label = np.full((30, 320), 3, np.uint8)
    plain = cv2.imread(str(draw_panels([[label]], tmp_path / "p.png", ("t",), CAMVID)))
    label[0, 0] = 255
    with_it = cv2.imread(str(draw_panels([[label]], tmp_path / "p.png", ("t",), CAMVID)))
    black = [(picture[-40:] == 0).all(2).sum() for picture in (plain, with_it)]
    assert black[0] == 0 < black[1]


def test_long_titles_shrink_to_their_column(tmp_path: Path) -> None:
    label = np.full((30, 320), 3, np.uint8)
    draw_panels(
        [[label, label]], tmp_path / "p.png", ("a very long title for so very narrow a column, too long", "b"), CAMVID
    )
    titles = cv2.imread(str(tmp_path / "p.png"))[:20]
    assert (titles[:, :2] == 255).all()
    assert (titles[:, 318:330] == 255).all()
