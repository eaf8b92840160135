"""Procedural street scenes in KITTI road's layout, with calibration that fits what is drawn.

um has a line in the middle, umm is wider and has several, uu has none. The calibration is as KITTI's: colour camera 2
beside and in front of camera 0, small rotations, a road frame some centimetres off. What stands on the ground plane
comes out undistorted in the bird's-eye view. Pictures have two sizes, as KITTI's differ by a pixel.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.files.png import encode_png
from ducseg.data.layouts.kitti_road import CATEGORIES, GroundTruth, result_name
from ducseg.data.processes import mapped
from ducseg.data.synthetic.checks import check_numbers, new_data_set
from ducseg.data.synthetic.cityscapes import check_size, develop
from ducseg.data.synthetic.scenes.canvas import CAMERA_HEIGHT, LABEL_IDS, Camera, Canvas, Points
from ducseg.data.synthetic.scenes.objects import draw_objects
from ducseg.data.synthetic.scenes.street import FAR, Street, draw_street, random_light
from ducseg.files import write_whole

__all__ = ["KittiCamera", "RoadScene", "calibration_of", "render_road_scene", "write_kitti_road"]

Matrix = NDArray[np.float64]

_WIDTHS = {"um": (3.5, 5.5), "umm": (6.0, 8.5), "uu": (2.6, 4.0)}  # half the road, in metres
_IGNORED_BEYOND = 80.0  # metres: annotators leave the far ground open
_OFFSETS = ((0.0, 0.0, 0.0), (-0.537, 0.0, 0.0), (0.0597, -0.0004, 0.0027), (-0.4731, 0.0024, 0.0027))
"""Where camera 0 stands as seen from cameras 0 to 3, in metres: KITTI's baselines."""


@dataclass(frozen=True, kw_only=True)
class KittiCamera(Camera):
    """The camera of the scenes with KITTI's focal length: 721.5 pixels at a width of 1242."""

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.581 * self.width


class RoadScene(NamedTuple):
    """One frame.

    Attributes:
        image: RGB uint8 (H, W, 3).
        road, lane: ground truth in KITTI's colours, RGB uint8 (H, W, 3); the lane is the right half of the road.
        calibration: the matrices of its calibration file.
    """

    image: NDArray[np.uint8]
    road: NDArray[np.uint8]
    lane: NDArray[np.uint8]
    calibration: dict[str, Matrix]


def render_road_scene(category: str, height: int, width: int, rng: np.random.Generator) -> RoadScene:
    """Draw one frame of a category (um, umm, uu); the same generator state gives the same frame.

    Raises:
        UserError: a size below 48 x 64.
    """
    check_size(height, width)
    camera = KittiCamera(height=height, width=width, horizon=height * float(rng.uniform(0.43, 0.49)))
    canvas = Canvas(camera, random_light(rng), rng)
    street = Street(rng, marked=category != "uu")
    street.road = float(rng.uniform(*_WIDTHS[category]))
    draw_street(canvas, street)
    if category == "umm":
        _draw_lane_lines(canvas, street)
    draw_objects(canvas, street)
    on_road = canvas.label_ids == LABEL_IDS["road"]
    right = np.zeros_like(canvas.label_ids)
    cv2.fillPoly(right, [np.rint(_ground(camera, 0, street.road, 0.1, 4000)).astype(np.int32)], 1)
    valid = _valid(canvas)
    return RoadScene(
        image=develop(canvas),
        road=_colours(valid, on_road),
        lane=_colours(valid, on_road & (right > 0)),
        calibration=calibration_of(camera, rng),
    )


def _ground(camera: Camera, left: float, right: float, near: float, far: float) -> Points:
    return camera.project([(left, 0, near), (left, 0, far), (right, 0, far), (right, 0, near)])


def _draw_lane_lines(canvas: Canvas, street: Street) -> None:
    white = np.array([205.0, 205.0, 200.0])
    for x in (-street.road / 2, street.road / 2):
        for near in np.arange(3.0, FAR, 9.0):
            line = _ground(canvas.camera, x - 0.07, x + 0.07, float(near), float(near) + 4)
            canvas.paint(line, canvas.light.on(white, float(near)))


def _valid(canvas: Canvas) -> NDArray[np.bool_]:
    """All but bins (Cityscapes' "static") and the far ground."""
    label, camera = canvas.label_ids, canvas.camera
    last_far_row = int(camera.horizon + camera.focal * CAMERA_HEIGHT / _IGNORED_BEYOND)
    ground = np.isin(label, [LABEL_IDS[name] for name in ("road", "sidewalk", "terrain")])
    ground[last_far_row + 1 :] = False
    return np.asarray(~ground & (label != LABEL_IDS["static"]), np.bool_)


def _colours(valid: NDArray[np.bool_], road: NDArray[np.bool_]) -> NDArray[np.uint8]:
    zeros = np.zeros_like(valid)
    return np.stack([valid, zeros, valid & road], 2).astype(np.uint8) * np.uint8(255)


def calibration_of(camera: Camera, rng: np.random.Generator) -> dict[str, Matrix]:
    """A calibration file's matrices, with which road x, z and the scene's X, Z differ by a few decimetres alone.

    P2 * R0_rect * inverse(Tr_cam_to_road) is exactly the scene's camera, so the rotation that R0_rect makes is undone
    by Tr_cam_to_road. Pixels are drawn about whole coordinates from 0, and KITTI's pixel j covers j + 1 to j + 2, hence
    the 1.5.
    """
    centre = np.array([camera.width / 2, camera.horizon]) + 1.5
    intrinsic = np.array([[camera.focal, 0, centre[0]], [0, camera.focal, centre[1]], [0, 0, 1]])
    projections = {
        f"P{index}": intrinsic @ np.column_stack([np.eye(3), offset]) for index, offset in enumerate(_OFFSETS)
    }
    rectify = _rotation(rng.normal(0, 0.008, 3))
    road_origin = np.array([rng.normal(0, 0.02), CAMERA_HEIGHT, -rng.uniform(0.25, 0.3)]) - _OFFSETS[2]
    axes = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # laser scanner: x ahead, y left, z up
    to_camera = np.column_stack([_rotation(rng.normal(0, 0.01, 3)) @ axes, [-0.004, -0.076, -0.272]])
    to_scanner = np.column_stack([_rotation(rng.normal(0, 0.01, 3)), [-0.809, 0.32, -0.8]])
    return projections | {
        "R0_rect": rectify,
        "Tr_velo_to_cam": to_camera,
        "Tr_imu_to_velo": to_scanner,
        "Tr_cam_to_road": np.column_stack([rectify, -road_origin]),
    }


def _rotation(angles: Matrix) -> Matrix:
    """Rotation by the vector (axis times angle in radians) `angles`."""
    return np.asarray(cv2.Rodrigues(angles)[0], np.float64)


def write_kitti_road(
    root: Path,
    *,
    num_train: int,
    num_test: int = 0,
    height: int = 375,
    width: int = 1242,
    seed: int = 0,
    num_workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write scenes as data_road.zip unpacks: training/ and testing/ with image_2, calib and (training) gt_image_2.

    Args:
        root: folder to make; the same arguments give the same bytes, whatever the number of workers.
        num_train, num_test: frames; they take the categories um, umm, uu in turn.
        height, width: in pixels, of the frames with even numbers; the others are one row higher and one column
            narrower.
        num_workers: processes.
        progress: called with (done, total).

    Raises:
        UserError: root is a file or holds training/ or testing/ already; a size below 48 x 65; a negative number of
            frames or none at all; a negative seed; no worker.
    """
    root = Path(root)
    check_size(height, width - 1)
    check_numbers(seed, "scenes", [num_train, num_test])
    frames = [("training", index) for index in range(num_train)] + [("testing", index) for index in range(num_test)]
    with new_data_set(root, ("training", "testing")) as made:
        list(mapped(partial(_write_frame, made, height, width, seed), frames, num_workers, progress))


def _write_frame(root: Path, height: int, width: int, seed: int, frame: tuple[str, int]) -> None:
    part, index = frame
    category, number = CATEGORIES[index % len(CATEGORIES)], index // len(CATEGORIES)
    odd = number % 2
    rng = np.random.default_rng([seed, int(part == "testing"), index])
    scene = render_road_scene(category, height + odd, width - odd, rng)
    folder, name = root / part, f"{category}_{number:06d}"
    write_whole(folder / "image_2" / f"{name}.png", encode_png(scene.image))
    write_whole(folder / "calib" / f"{name}.txt", _calibration_text(scene.calibration).encode())
    if part == "testing":
        return
    truths: list[tuple[GroundTruth, NDArray[np.uint8]]] = [("road", scene.road)]
    if category == "um":
        truths.append(("lane", scene.lane))
    for kind, truth in truths:
        write_whole(folder / "gt_image_2" / f"{result_name(name, kind)}.png", encode_png(truth))


def _calibration_text(matrices: Mapping[str, Matrix]) -> str:
    rows = (f"{key}: " + " ".join(f"{value:.12e}" for value in matrix.ravel()) for key, matrix in matrices.items())
    return "\n".join(rows) + "\n"
