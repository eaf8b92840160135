"""Calibration files of KITTI road: one line a matrix, `KEY: numbers` in row-major order.

The road frame has x to the right, y down and z ahead, in metres, with y = 0 on the road; the camera stands
near x = z = 0.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import UserError, explain

__all__ = ["KittiCalibration"]

_SHAPES = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_cam_to_road": (3, 4)}
_FIX = "Unpack the calib folder of data_road.zip again, or check that the path is a calibration file."


@dataclass(frozen=True, kw_only=True)
class KittiCalibration:
    """What maps the road plane to pixels of the left colour camera.

    Attributes:
        p2: float64 (3, 4), rectified camera metres to homogeneous pixels; pixel (1, 1) is the first (as in Matlab).
        r0_rect: float64 (3, 3), camera to rectified camera.
        tr_cam_to_road: float64 (3, 4), camera to road frame, metres.
    """

    p2: NDArray[np.float64]
    r0_rect: NDArray[np.float64]
    tr_cam_to_road: NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read P2, R0_rect and Tr_cam_to_road of a calibration file; other keys are not looked at.

        Raises:
            UserError: no such file, no text, and (all in one message) keys that are missing, have another count of
                numbers, something that is no finite number, or a matrix that cannot be inverted.
        """
        lines = _lines(path)
        problems: list[str] = []
        found: dict[str, NDArray[np.float64]] = {}
        for key, shape in _SHAPES.items():
            values = _numbers(key, shape, lines, problems)
            if values is not None:
                found[key] = values
        if problems:
            needed = ", ".join(f"{key} of {rows * columns} numbers" for key, (rows, columns) in _SHAPES.items())
            raise explain(f"calibration {path}", found="; ".join(problems), needed=needed, fix=_FIX)
        return cls(p2=found["P2"], r0_rect=found["R0_rect"], tr_cam_to_road=found["Tr_cam_to_road"])

    def road_to_image(self) -> NDArray[np.float64]:
        """Float64 (3, 3): (x, z, 1) on the road, in metres, to homogeneous pixels (u, v), which count from 1.

        The columns 0, 2 and 3 of P2 * R0_rect * inverse(Tr_cam_to_road), as in the benchmark's development kit.
        """
        projection = self.p2 @ _square(self.r0_rect) @ np.linalg.inv(_square(self.tr_cam_to_road))
        return np.asarray(projection[:, [0, 2, 3]], np.float64)


def _square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) or (3, 4) as the upper left of a (4, 4) identity."""
    whole = np.eye(4)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole


def _lines(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise _unreadable(path, "bytes that are no text") from None
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): values for key, colon, values in pairs if colon}


def _unreadable(path: Path, reason: str) -> UserError:
    return explain(f"calibration {path}", found=reason, needed="a text file of `KEY: numbers` lines", fix=_FIX)


def _numbers(
    key: str, shape: tuple[int, int], lines: dict[str, str], problems: list[str]
) -> NDArray[np.float64] | None:
    """The matrix of a key; None, and one problem more, where it does not read."""
    if key not in lines:
        problems.append(f"no {key}")
        return None
    words = lines[key].split()
    if len(words) != shape[0] * shape[1]:
        problems.append(f"{key} with {len(words)} numbers")
        return None
    try:
        matrix = np.array([float(word) for word in words]).reshape(shape)
    except ValueError as error:
        problems.append(f"{key} with {error}")
        return None
    if not np.isfinite(matrix).all():
        problems.append(f"{key} with a number that is not finite")
    elif np.linalg.matrix_rank(matrix[:, :3]) < 3:
        problems.append(f"{key} whose left 3x3 part cannot be inverted")
    else:
        return matrix
    return None
