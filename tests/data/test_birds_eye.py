"""The bird's-eye view against the kit's own, the way back, and calibration files that do not read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.data.birds_eye import BEV_SIZE, BirdsEye
from ducseg.data.kitti_calibration import KittiCalibration
from ducseg.errors import UserError

NAMES = ("um_000000", "umm_000000", "uu_000000", "uu_000093")
CALIBRATION = """P2: 721.5 0 609.5 44.8 0 721.5 172.8 0.2 0 0 1 0.0027
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_cam_to_road: 1 0 0 0.01 0 1 -0.01 -1.6 0 0.01 1 0.28
"""


def birds_eye(focal: float = 721.5, height: float = 1.6, pitch: float = 0.01) -> BirdsEye:
    p2 = np.array([[focal, 0, 609.5, 0], [0, focal, 172.8, 0], [0, 0, 1, 0]])
    turn = np.array([[1, 0, 0, 0], [0, np.cos(pitch), -np.sin(pitch), -height], [0, np.sin(pitch), np.cos(pitch), 0]])
    return BirdsEye(KittiCalibration(p2=p2, r0_rect=np.eye(3), tr_cam_to_road=turn).road_to_image())


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_kit_byte_for_byte(shared: Path, name: str) -> None:
    data, answers = shared / "data" / "kitti_road" / "training", shared / "fixtures" / "kitti_road"
    view = BirdsEye.read(data / "calib" / f"{name}.txt")
    file = f"{name.replace('_', '_road_')}.png"
    for source, answer in (
        (data / "gt_image_2", answers / "gt_bev"),
        (answers / "prob_perspective", answers / "prob_bev"),
    ):
        picture, expected = (cv2.imread(str(folder / file), cv2.IMREAD_UNCHANGED) for folder in (source, answer))
        assert picture is not None
        np.testing.assert_array_equal(view.from_image(picture), expected)


@settings(max_examples=12)
@given(focal=st.floats(500, 900), height=st.floats(1.3, 2), pitch=st.floats(-0.02, 0.02), seed=st.integers(0, 99))
def test_each_cell_is_the_pixel_under_its_centre(focal: float, height: float, pitch: float, seed: int) -> None:
    view, rng = birds_eye(focal, height, pitch), np.random.default_rng(seed)
    picture = rng.integers(1, 256, (375, 1242, 3), dtype=np.uint8)
    found = view.from_image(picture)
    assert found.shape == (*BEV_SIZE, 3)
    np.testing.assert_array_equal(found[..., 1], view.from_image(picture[..., 1]))
    for row, column in rng.integers(0, BEV_SIZE, (20, 2)):
        x, z = np.float32(-10 + 0.025 + 0.05 * column), np.float32(46 - 0.025 - 0.05 * row)
        u, v, w = view.road_to_image @ np.array([x, z, 1], dtype=np.float64)
        inside = 1 <= u / w <= 1242 and 1 <= v / w <= 375
        expected = picture[int(v / w) - 1, int(u / w) - 1] if inside else np.zeros(3)
        np.testing.assert_array_equal(found[row, column], expected)


@settings(max_examples=12)
@given(focal=st.floats(500, 900), height=st.floats(1.3, 2), pitch=st.floats(-0.02, 0.02))
def test_a_drawn_view_comes_back(focal: float, height: float, pitch: float) -> None:
    view = birds_eye(focal, height, pitch)
    drawn = np.zeros((*BEV_SIZE, 3), np.uint8)
    drawn[500:700, 150:260] = (9, 90, 250)  # 11 to 21 m ahead, where pixels are smaller than cells
    picture = view.to_image(drawn, (375, 1242))
    again = view.from_image(picture)
    differs = (again != drawn).any(-1)
    assert not cv2.erode(differs.astype(np.uint8), np.ones((7, 7))).any()  # edges move by less than a pixel's depth
    np.testing.assert_array_equal(again[506:694, 153:257], drawn[506:694, 153:257])
    horizon = int(172.8 - focal * np.tan(pitch)) - 2
    assert not picture[:horizon].any()


def test_calibration_reads_what_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "um_000000.txt"
    file.write_text("P0: nonsense\n" + CALIBRATION + "\n")
    found = KittiCalibration.read(file)
    assert found.p2.shape == (3, 4)
    assert found.p2[0, 3] == 44.8
    assert found.r0_rect.shape == (3, 3)
    assert found.tr_cam_to_road[1, 3] == -1.6
    view = BirdsEye.read(file)
    whole = np.eye(4)
    whole[:3] = found.tr_cam_to_road
    expected = found.p2 @ np.linalg.solve(whole, np.array([2.0, 0.0, 20.0, 1.0]))  # R0 is the identity here
    np.testing.assert_allclose(view.road_to_image @ [2.0, 20.0, 1.0], expected, rtol=1e-12)


def test_bad_calibrations_name_file_and_every_key(tmp_path: Path) -> None:
    file = tmp_path / "um_000000.txt"
    with pytest.raises(UserError, match=r"um_000000\.txt: found No such file"):
        KittiCalibration.read(file)
    file.write_text("P2: 1 2 3\nR0_rect: 1 0 0 0 x 0 0 0 1\n")
    with pytest.raises(UserError, match=r"um_000000\.txt: found P2 with 3 numbers; R0_rect with .*'x'; no Tr_cam_to_r"):
        KittiCalibration.read(file)
    file.write_text(CALIBRATION.replace("1 0 0 0 1 0 0 0 1", "1 0 0 0 nan 0 0 0 1").replace("0.01 1 0.28", "0 0 0.28"))
    with pytest.raises(UserError, match=r"R0_rect with a number that is not finite; Tr_cam_to_road .* be inverted"):
        KittiCalibration.read(file)
    file.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"um_000000\.txt: found bytes that are no text"):
        KittiCalibration.read(file)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
def test_values_of_every_type_stay_as_they_are(kind: type[np.generic]) -> None:
    view, picture = birds_eye(), np.random.default_rng(0).integers(0, 256, (375, 1242), np.uint8)
    there, factor = view.from_image(picture), kind(1.0 / 255 if np.issubdtype(kind, np.floating) else 257)
    back = view.to_image(there, picture.shape)
    found = view.from_image(picture.astype(kind) * factor)
    assert there.any() and found.dtype == kind and np.array_equal(found, there.astype(kind) * factor)
    found = view.to_image(there.astype(kind) * factor, picture.shape)
    assert back.any() and found.dtype == kind and np.array_equal(found, back.astype(kind) * factor)


def test_a_view_of_another_size_is_refused_and_a_path_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "calibration.txt").write_text(CALIBRATION)
    view = BirdsEye.read(f"{tmp_path}/calibration.txt")
    with pytest.raises(UserError, match=r"bird's-eye view: found shape \(400, 800\)"):
        view.to_image(np.zeros((400, 800), np.uint8), (375, 1242))
