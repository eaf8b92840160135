import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ducseg.classes import CAMVID
from ducseg.errors import UserError
from ducseg.figures.curves import draw_curves
from ducseg.figures.panels import draw_panels
from ducseg.figures.report import Section, paragraph, picture, table, write_report


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


def test_curves_draw_every_run_and_refuse_an_empty_log(tmp_path: Path) -> None:
    logs = {}
    for name in ("bilinear", "DUC"):
        lines = [{"kind": "step", "step": step, "loss": 3 / step} for step in range(1, 50)]
        lines += [{"kind": "evaluation", "step": step, "mean_iou": step / 100} for step in (10, 40)]
        logs[name] = tmp_path / f"{name}.jsonl"
        logs[name].write_text("".join(json.dumps(line) + "\n" for line in lines))
    picture_file = draw_curves(logs, tmp_path / "curves.png")
    assert cv2.imread(str(picture_file)).std() > 10
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match="no training step"):
        draw_curves({"empty": tmp_path / "empty.jsonl"}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_report_is_one_file_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((4, 4, 3), np.uint8))
    parts = (paragraph("a < b"), table(("class", "gain"), [("pole", "+1.0"), ("bus", "-2.0")], strong=(0,)))
    sections = [Section("What & why", (*parts, picture(tmp_path / "p.png", "four pixels")))]
    page = write_report(tmp_path / "r.html", "Title", "Lead", sections).read_text()
    assert "a &lt; b" in page
    assert "What &amp; why" in page
    assert page.count("data:image/png;base64,") == 1
    assert '<td class="good">+1.0' in page
    assert '<td class="bad">-2.0' in page
    assert 'src="p.png' not in page
