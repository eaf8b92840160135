"""KITTI road's scores against the kit's own answers and against its rules written as loops; then bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ducseg.errors import Said, UserError
from ducseg.metrics.kitti_road import MEASURES, RoadCounts, format_road_table, pooled, road_scores
from ducseg.metrics.kitti_road_files import View, count_kitti_road, score_kitti_road

RATES = ("PRE", "REC", "FPR", "FNR")


def assert_kit(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    assert found.keys() == expected.keys()
    for category, scores in expected.items():
        assert tuple(found[category]) == MEASURES
        for measure, value in scores.items():
            own = found[category]["threshold" if measure == "BestThresh" else measure]
            # the kit computes the four rates in float32
            tolerance = float(2 * np.finfo(np.float32).eps) if measure in RATES else 1e-9
            assert own == pytest.approx(value, rel=tolerance, abs=tolerance), (category, measure)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("view", "pred", "gt"),
    [
        ("perspective", "fixtures/kitti_road/prob_perspective", "data/kitti_road/training/gt_image_2"),
        ("bev", "fixtures/kitti_road/prob_perspective", "data/kitti_road/training/gt_image_2"),
        ("bev", "fixtures/kitti_road/prob_bev", "data/kitti_road/training/gt_image_2"),
        ("bev", "fixtures/kitti_road/prob_bev", "fixtures/kitti_road/gt_bev"),
    ],
)
def test_equals_the_kit(shared: Path, view: View, pred: str, gt: str) -> None:
    expected = json.loads((shared / "fixtures" / "kitti_road" / "expected.json").read_text())[view]
    seen: list[tuple[int, int]] = []
    assert_kit(score_kitti_road(shared / pred, shared / gt, view=view, progress=lambda *at: seen.append(at)), expected)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.shared
def test_workers_change_nothing(shared: Path) -> None:
    pred, gt = shared / "fixtures/kitti_road/prob_perspective", shared / "data/kitti_road/training/gt_image_2"
    assert score_kitti_road(pred, gt, num_workers=2) == score_kitti_road(pred, gt)


frames = st.lists(
    st.lists(st.tuples(st.sampled_from([0, 1, 1, 255]), st.integers(0, 255)), min_size=1, max_size=40),
    min_size=1,
    max_size=3,
)


@given(frames)
def test_equals_the_rules_as_loops(pictures: list[list[tuple[int, int]]]) -> None:
    counts = RoadCounts()
    for picture in pictures:
        part = RoadCounts()
        part.update(*np.array(picture, np.uint8).T[:, None])
        counts.merge(part)
    pixels = [pixel for picture in pictures for pixel in picture if pixel[0] != 255]
    positives = sum(label == 1 for label, _ in pixels)
    found = counts.scores()
    if not positives:
        assert all(np.isnan(value) for value in found.values())
        return
    rows = []
    for k in range(256):
        true = sum(label == 1 and value >= k for label, value in pixels)
        false = sum(label == 0 and value >= k for label, value in pixels)
        precision, recall = true / (true + false + 1e-10), true / positives
        if precision or recall:
            f_measure = 2 * precision * recall / (precision + recall + 1e-10)
            rows.append((f_measure, precision, recall, false / max(1, len(pixels) - positives), k / 255))
    best = max(rows, key=lambda row: row[0])
    levels = np.arange(0, 1.1, 0.1)
    average = sum(max(row[1] for row in rows if row[2] >= level) for level in levels) / 11
    expected = dict(zip(MEASURES, (best[0], average, best[1], best[2], best[3], 1 - best[2], best[4])))
    for measure, value in expected.items():
        if measure == "FPR" and len(pixels) == positives:
            assert np.isnan(found[measure])
        else:
            assert found[measure] == pytest.approx(value, abs=1e-12), measure


@given(frames)
def test_urban_pools_the_roads_alone(pictures: list[list[tuple[int, int]]]) -> None:
    names = ("um_road", "uu_road", "um_lane")
    counts = {name: RoadCounts() for name in names}
    for name, picture in zip(names, pictures):
        counts[name].update(*np.array(picture, np.uint8).T[:, None])
    urban = pooled(counts)["urban_road"]
    np.testing.assert_array_equal(urban.road, counts["um_road"].road + counts["uu_road"].road)
    np.testing.assert_array_equal(urban.other, counts["um_road"].other + counts["uu_road"].other)
    assert "urban_road" not in road_scores({"um_lane": counts["um_lane"]})


def test_table_shows_per_cent_and_gaps() -> None:
    counts = RoadCounts()
    counts.update(np.array([[1, 1, 0, 0]], np.uint8), np.array([[200, 90, 90, 10]], np.uint8))
    table = format_road_table(road_scores({"um_road": counts, "uu_road": RoadCounts()}))
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["um_road", "uu_road", "urban_road"]
    assert cells[1] == ["80.00", "-", "80.00"]
    assert cells[-1] == [f"{11 / 255:.3f}", "-", f"{11 / 255:.3f}"]


# -- folders -----------------------------------------------------------------------------------------------------------

SIZE = (40, 60)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Results and ground truth of three roads and a lane; blue stands first in OpenCV's order."""
    pred, gt = tmp_path / "pred", tmp_path / "training" / "gt_image_2"
    rng = np.random.default_rng(0)
    for name in ("um_road_000000", "umm_road_000001", "uu_road_000000", "um_lane_000000"):
        truth = np.zeros((*SIZE, 3), np.uint8)
        truth[..., 0], truth[5:, :, 2] = 255 * rng.integers(0, 2, SIZE), 255
        write(gt / f"{name}.png", truth)
        write(pred / f"{name}.png", rng.integers(0, 256, SIZE, dtype=np.uint8))
    return pred, gt


def test_lanes_are_scored_where_there_are_results(folders: tuple[Path, Path]) -> None:
    pred, gt = folders
    found = score_kitti_road(pred, gt, view="perspective")
    assert list(found) == ["um_road", "umm_road", "uu_road", "um_lane", "urban_road"]
    (pred / "um_lane_000000.png").unlink()
    roads = score_kitti_road(pred, gt, view="perspective")
    assert roads == {name: scores for name, scores in found.items() if name != "um_lane"}
    counts = count_kitti_road(pred, gt, view="perspective")
    assert counts["um_road"].road.sum() + counts["um_road"].other.sum() == 35 * 60  # five rows are not valid


def test_missing_and_surplus_are_listed_at_once(folders: tuple[Path, Path]) -> None:
    pred, gt = folders
    (pred / "uu_road_000000.png").unlink()
    (pred / "um_road_000000.png").rename(pred / "um_000000.png")
    found = (
        r"2 of 4 without a prediction: um_road_000000, uu_road_000000; 1 surplus files, .*um_000000\.png; .*--subset"
    )
    with pytest.raises(UserError, match=found):
        score_kitti_road(pred, gt, view="perspective")
    with pytest.warns(Said, match="left out: 2 of 4 without"):
        some = score_kitti_road(pred, gt, view="perspective", subset=True)
    assert list(some) == ["umm_road", "um_lane", "urban_road"]
    for file in pred.iterdir():
        file.rename(file.with_name(file.name.replace("_road", "").replace("_lane", "_l")))
    for subset in (False, True):
        with pytest.raises(UserError, match=r"3 of 3 without a prediction"):
            score_kitti_road(pred, gt, view="perspective", subset=subset)


def resize(file: Path) -> None:
    write(file, np.zeros((40, 61), np.uint8))


def colour(file: Path) -> None:
    write(file, np.zeros((*SIZE, 3), np.uint8))


def with_alpha(file: Path) -> None:
    write(file, np.zeros((*SIZE, 4), np.uint8))


def deep(file: Path) -> None:
    write(file, np.zeros(SIZE, np.uint16))


def palette(file: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).convert("P").save(file)


def jpeg(file: Path) -> None:
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(file, format="JPEG")


def birds_eye(file: Path) -> None:
    write(file, np.zeros((800, 400), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (resize, "is 40x61 and its ground truth 40x60"),
        (colour, "is 8-bit RGB"),
        (with_alpha, "is 8-bit RGBA"),
        (deep, "is 16-bit grey"),
        (palette, "is 8-bit palette"),
        (jpeg, "is no PNG"),
        (birds_eye, "is 800x400 and its ground truth 40x60"),
    ],
)
def test_results_that_do_not_fit(folders: tuple[Path, Path], spoil: Callable[[Path], None], message: str) -> None:
    pred, gt = folders
    spoil(pred / "um_road_000000.png")
    spoil(pred / "uu_road_000000.png")
    needed = rf"2 that do not fit \(um_road_000000.png {message}; uu_road_000000.png {message}\); needed 8-bit grey"
    with pytest.raises(UserError, match=needed):
        score_kitti_road(pred, gt, view="perspective")


def test_damaged_files_and_wrong_ground_truth_are_named(folders: tuple[Path, Path]) -> None:
    pred, gt = folders
    file = pred / "uu_road_000000.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"uu_road_000000\.png.*damaged, truncated"):
        score_kitti_road(pred, gt, view="perspective")
    file.write_bytes(whole)
    write(gt / "um_road_000000.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(UserError, match=r"ground truth .*um_road_000000\.png: found 8-bit grey pixels"):
        score_kitti_road(pred, gt, view="perspective")


def test_birds_eye_needs_calibration(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pred, gt = folders
    with pytest.raises(UserError, match=r"training/calib: found 4 files missing \(um_000000\.txt, .*--calib"):
        score_kitti_road(pred, gt)
    for name in ("um_000000", "umm_000001", "uu_000000"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / f"{name}.txt").write_text("P2: 1 2\n")
    with pytest.raises(UserError, match=r"calibration .*elsewhere/um_000000\.txt: found P2 with 2 numbers; no R0_rect"):
        score_kitti_road(pred, gt, calib=tmp_path / "elsewhere")


def test_paths_that_hold_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    pred, gt = folders
    archive = Path(shutil.make_archive(str(tmp_path / "results"), "zip", pred))
    with pytest.raises(UserError, match=r"results of KITTI road .*found the archive results\.zip itself.*Unpack it"):
        score_kitti_road(archive, gt)
    with pytest.raises(
        UserError, match=r"ground truth of KITTI road in .*training: found no PNG.*There is: gt_image_2"
    ):
        score_kitti_road(pred, gt.parent)
    with pytest.raises(UserError, match=r"does not exist"):
        score_kitti_road(tmp_path / "nowhere", gt)


def test_confidences_of_another_type_or_shape_are_refused() -> None:
    counts, label = RoadCounts(), np.ones((2, 3), np.uint8)
    with pytest.raises(UserError, match="confidence: found values of type float64; needed values of type uint8"):
        counts.update(label, label / 255)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"confidence: found shape \(3, 2\)"):
        counts.update(label, label.T)
    assert not counts.road.any()
