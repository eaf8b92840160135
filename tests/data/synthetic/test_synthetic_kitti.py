"""Synthetic frames in KITTI road's layout: their geometry, their files through the real reader, and bad arguments."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ducseg.data.birds_eye import BEV_SIZE, BirdsEye
from ducseg.data.kitti_calibration import KittiCalibration
from ducseg.data.layouts.kitti_road import KittiRoad
from ducseg.data.synthetic.kitti_road import KittiCamera, calibration_of, render_road_scene, write_kitti_road
from ducseg.errors import UserError

SIZE = (375, 1242)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kitti")
    write_kitti_road(folder, num_train=6, num_test=2, height=120, width=400, seed=3)
    return folder


@settings(max_examples=10)
@given(
    left=st.floats(-4, 2),
    across=st.floats(0.6, 3),
    near=st.floats(9, 14),
    along=st.floats(2, 8),
    seed=st.integers(0, 9),
)
def test_a_ground_rectangle_is_a_rectangle_from_above(
    left: float, across: float, near: float, along: float, seed: int
) -> None:
    """Drawn by the scenes' camera, in the scenes' metres."""
    camera = KittiCamera(height=SIZE[0], width=SIZE[1], horizon=170.3)
    corners = [(left, 0, near), (left, 0, near + along), (left + across, 0, near + along), (left + across, 0, near)]
    picture = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(picture, [np.rint(camera.project(corners)).astype(np.int32)], 255)
    matrices = calibration_of(camera, np.random.default_rng(seed))
    calibration = KittiCalibration(
        p2=matrices["P2"], r0_rect=matrices["R0_rect"], tr_cam_to_road=matrices["Tr_cam_to_road"]
    )
    view = BirdsEye(calibration.road_to_image()).from_image(picture) > 0
    rows, columns = view.any(1).nonzero()[0], view.any(0).nonzero()[0]
    assert view[rows[2] : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1].all()  # full: both edges straight and upright
    assert columns[-1] - columns[0] == pytest.approx(across / 0.05, abs=3)  # a pixel is up to 0.03 m wide there
    assert rows[-1] - rows[0] == pytest.approx(along / 0.05, abs=16)  # and up to 0.45 m long
    assert abs((columns[0] + columns[-1]) / 2 - (left + across / 2 + 10) / 0.05) < 3  # the road frame is a little aside
    assert abs(rows[-1] - (46 - near) / 0.05) < 14


def test_the_file_maps_road_metres_to_pixels(root: Path) -> None:
    """The same, drawn through the written matrices, into a picture as large as the frame."""
    file = root / "training" / "calib" / "umm_000001.txt"
    matrices = {
        key: np.array(values.split(), float)
        for key, _, values in (line.partition(":") for line in file.read_text().splitlines())
    }
    assert list(matrices) == ["P0", "P1", "P2", "P3", "R0_rect", "Tr_velo_to_cam", "Tr_imu_to_velo", "Tr_cam_to_road"]
    to_road, rectify = np.eye(4), np.eye(4)
    to_road[:3], rectify[:3, :3] = matrices["Tr_cam_to_road"].reshape(3, 4), matrices["R0_rect"].reshape(3, 3)
    projection = matrices["P2"].reshape(3, 4) @ rectify @ np.linalg.inv(to_road)
    road = np.array([(-1, 0, 8, 1), (-1, 0, 12, 1), (2, 0, 12, 1), (2, 0, 8, 1)], float)
    u, v, w = projection @ road.T
    corners = np.stack([u / w, v / w], 1) - 1.5  # pixel 0 holds 1 to 2
    picture = np.zeros((121, 399), np.uint8)
    cv2.fillPoly(picture, [np.rint(corners * 256).astype(np.int32)], 255, shift=8)
    expected = np.zeros(BEV_SIZE, bool)
    expected[680:760, 180:240] = True
    found = BirdsEye.read(file).from_image(picture) > 0
    assert (found & expected).sum() / (found | expected).sum() > 0.9
    for matrix in (rectify[:3, :3], to_road[:3, :3], matrices["Tr_velo_to_cam"].reshape(3, 4)[:, :3]):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert to_road[1, 3] == pytest.approx(-1.5, abs=0.01)  # the camera's height


def test_reader_takes_it(root: Path) -> None:
    dataset = KittiRoad(root, "trainval")
    assert dataset.ids == ("um_000000", "um_000001", "umm_000000", "umm_000001", "uu_000000", "uu_000001")
    assert [dataset[index].original_size for index in (0, 1)] == [(120, 400), (121, 399)]
    for index, path in enumerate(dataset.calibration_paths):
        BirdsEye.read(path)
        label = dataset[index].label
        assert label is not None
        shares = [(label == value).mean() for value in (0, 1, 255)]
        assert shares[0] > 0.3
        assert 0.05 < shares[1] < 0.6
        assert shares[2] < 0.1
    assert sum((dataset[index].label == 255).any() for index in range(6)) >= 3
    lanes = KittiRoad(root, "trainval", ground_truth="lane")
    assert lanes.ids == ("um_000000", "um_000001")
    lane, road = lanes[0].label, dataset[0].label
    assert ((lane == 1) <= (road == 1)).all()
    assert 0.2 < (lane == 1).sum() / (road == 1).sum() < 0.8
    assert KittiRoad(root, "test").ids == ("um_000000", "umm_000000")
    assert not (root / "testing" / "gt_image_2").exists()


def test_the_same_bytes_with_more_workers(root: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    write_kitti_road(
        tmp_path, num_train=6, num_test=2, height=120, width=400, seed=3, num_workers=2,
        progress=lambda *at: done.append(at),
    )  # fmt: skip
    assert done[-1] == (8, 8)
    files = sorted(file.relative_to(root) for file in root.rglob("*.*"))
    assert len(files) == 8 + 8 + 6 + 2
    assert files == sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.*"))
    assert all((root / file).read_bytes() == (tmp_path / file).read_bytes() for file in files)


def test_categories_differ() -> None:
    roads = {
        category: render_road_scene(category, 120, 400, np.random.default_rng(1)).road[..., 2].mean()
        for category in ("uu", "um", "umm")
    }
    assert roads["uu"] < roads["um"] < roads["umm"]


def test_bad_arguments(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found training/ and testing/ in it"):
        write_kitti_road(root, num_train=1)
    with pytest.raises(UserError, match=r"scene size: found 40x99"):
        write_kitti_road(tmp_path, num_train=1, height=40, width=100)
    with pytest.raises(UserError, match=r"number of scenes: found 0 and 0"):
        write_kitti_road(tmp_path, num_train=0)
    with pytest.raises(UserError, match=r"workers: found 0"):
        write_kitti_road(tmp_path, num_train=1, num_workers=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"found a file; needed a new folder"):
        write_kitti_road(tmp_path / "file", num_train=1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file"]
