"""Figures of KITTI road: what is drawn, and bad input."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import figure as matplotlib_figure
from PIL import Image

from ducseg.errors import UserError
from ducseg.figures.precision_recall import draw_precision_recall
from ducseg.figures.road_overlay import draw_roads, road_in_red
from ducseg.metrics.kitti_road import RoadCounts, road_scores


def counts(seed: int, shift: float) -> RoadCounts:
    rng, found = np.random.default_rng(seed), RoadCounts()
    label = rng.choice(np.array([0, 1, 255], np.uint8), (60, 80))
    confidence = np.clip(rng.normal(120 + shift * (label == 1), 40), 0, 255).astype(np.uint8)
    found.update(label, confidence)
    return found


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_curves_and_best_points(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[matplotlib_figure.Figure] = []
    save = matplotlib_figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib_figure.Figure,
        "savefig",
        lambda self, path, **options: (drawn.append(self), save(self, path, **options))[1],
    )
    given = {"um_road": counts(0, 60), "uu_road": counts(1, 110), "umm_road": RoadCounts()}
    path = tmp_path / f"curves{suffix}"
    assert draw_precision_recall(given, path) == path
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as picture:
            assert min(picture.size) > 500
    else:
        assert path.read_text().startswith("<?xml")
    lines = drawn[0].axes[0].lines
    labels = [str(line.get_label()) for line in lines[::2]]
    scores = road_scores(given)
    assert [label.partition(":")[0] for label in labels] == ["um_road", "uu_road", "urban_road"]  # umm has no road
    for line, point, label in zip(lines[::2], lines[1::2], labels):
        score = scores[label.partition(":")[0]]
        assert f"MaxF {100 * score['MaxF']:.2f}, AP {100 * score['AP']:.2f}" in label
        assert point.get_xydata().tolist() == [[100 * score["REC"], 100 * score["PRE"]]]
        assert len(line.get_xydata()) > 100
    with pytest.raises(UserError, match=r"no category with a road pixel"):
        draw_precision_recall({"um_road": RoadCounts()}, path)


def test_road_is_half_red() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    road = np.zeros((4, 6), bool)
    road[2:, 1:4] = True
    found = road_in_red(image, road)
    np.testing.assert_array_equal(found[~road], image[~road])
    np.testing.assert_allclose(found[road], (image[road] + np.array([255.0, 0, 0])) / 2, atol=0.5)


def test_sheet_of_roads(tmp_path: Path) -> None:
    grey = np.full((10, 40, 3), 100, np.uint8)
    pictures = [(grey, np.zeros((10, 40), bool)), (grey, np.ones((10, 40), bool)), (grey[:9], np.ones((9, 40), bool))]
    path = draw_roads(pictures, tmp_path / "roads.png", width=80)
    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape == (2 * 20 + 4, 2 * 80 + 4, 3)
    assert (sheet[:20, :80] == 100).all()
    assert (sheet[:20, 84:] == (178, 50, 50)).all()
    assert (sheet[24:42, :80] == (178, 50, 50)).all()
    assert (sheet[42:, :80] == 255).all()
    assert (sheet[24:, 84:] == 255).all()
    with pytest.raises(UserError, match=r"found no picture"):
        draw_roads([], path)
