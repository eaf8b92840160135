"""Cars, trucks, buses and trams: boxes in perspective, with what tells them apart. Sizes in metres."""

from dataclasses import dataclass

import cv2
import numpy as np

from ducseg.data.synthetic.scenes.canvas import Canvas, Colour, Points

__all__ = ["PAINTS", "Place", "draw_bus", "draw_car", "draw_shadow", "draw_train", "draw_truck"]

PAINTS = np.array(
    [
        (170, 170, 175), (40, 42, 48), (230, 230, 230), (150, 30, 32), (35, 60, 120), (90, 95, 100), (60, 80, 60),
        (190, 160, 60),
    ],
    float,
)  # fmt: skip
"""Colours that anything painted may have, RGB 0..255."""


@dataclass(frozen=True)
class Place:
    """Where something stands: X and Z on the ground."""

    x: float
    z: float


def draw_shadow(canvas: Canvas, place: Place, radius: float, length: float = 0.4) -> None:
    """Darken an ellipse on the ground, half axes 1.3 `radius` across and `length` along the road."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x = place.x + 1.3 * radius * np.cos(angle)
    z = np.maximum(place.z + length * np.sin(angle), 1.0)
    canvas.darken(canvas.camera.project(np.stack([x, np.zeros_like(x), z], 1)), 0.62)


@dataclass(frozen=True)
class _Box:
    left: float
    right: float
    bottom: float
    top: float
    near: float
    far: float

    def face(self, canvas: Canvas, which: str, inset: tuple[float, float, float, float] = (0, 0, 0, 0)) -> Points:
        """The near face or the side that the camera sees, in pixels; inset: left, right, bottom, top as shares."""
        bottom = self.bottom + inset[2] * (self.top - self.bottom)
        top = self.top - inset[3] * (self.top - self.bottom)
        if which == "near":
            left = self.left + inset[0] * (self.right - self.left)
            right = self.right - inset[1] * (self.right - self.left)
            corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
            return canvas.camera.project([(x, y, self.near) for x, y in corners])
        x = self.left if self.left > 0 else self.right
        near = self.near + inset[0] * (self.far - self.near)
        far = self.far - inset[1] * (self.far - self.near)
        return canvas.camera.project([(x, bottom, near), (x, bottom, far), (x, top, far), (x, top, near)])

    def draw(self, canvas: Canvas, label: str, colour: Colour, instance: int) -> None:
        corners = [
            (x, y, z) for x in (self.left, self.right) for y in (self.bottom, self.top) for z in (self.near, self.far)
        ]
        hull = cv2.convexHull(canvas.camera.project(corners).astype(np.float32))[:, 0].astype(float)
        light = canvas.light
        canvas.fill(label, hull, light.on(colour, self.near, 1.08), instance=instance)  # the roof, where it is seen
        if self.left > 0 or self.right < 0:
            canvas.paint(self.face(canvas, "side"), light.on(colour, self.near, light.side(left=self.left > 0)))
        canvas.paint(self.face(canvas, "near"), light.on(colour, self.near, 0.88), grain=3)


_GLASS = np.array([48.0, 56.0, 68.0])


def _windows(canvas: Canvas, box: _Box, columns: int, inset: tuple[float, float, float, float]) -> None:
    """A row of windows along the visible side, and one on the near face."""
    glass = canvas.light.on(_GLASS * canvas.rng.uniform(0.7, 1.5), box.near)
    if box.left > 0 or box.right < 0:
        for column in range(columns):
            begin, end = (column + 0.1) / columns, 1 - (column + 0.9) / columns
            canvas.paint(box.face(canvas, "side", (begin, end, inset[2], inset[3])), glass)
    canvas.paint(box.face(canvas, "near", inset), glass)


def _wheels(canvas: Canvas, box: _Box, label: str, instance: int, radius: float) -> None:
    x = box.left if box.left > 0 else box.right
    rubber = canvas.light.on([28, 28, 30], box.near)
    for share in (0.2, 0.8):
        z = box.near + share * (box.far - box.near)
        angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        rim = np.stack([np.full_like(angle, x), radius + radius * np.sin(angle), z + radius * np.cos(angle)], 1)
        canvas.fill(label, canvas.camera.project(rim), rubber, instance=instance)


def _lights(canvas: Canvas, box: _Box) -> None:
    for inset in ((0.04, 0.8, 0.5, 0.3), (0.8, 0.04, 0.5, 0.3)):
        canvas.paint(box.face(canvas, "near", inset), canvas.light.on([185, 40, 35], box.near))


def _vehicle(
    canvas: Canvas, place: Place, label: str, size: tuple[float, float, float], floor: float, paint: Colour
) -> tuple[_Box, int]:
    width, height, length = size
    box = _Box(place.x - width / 2, place.x + width / 2, floor, height, max(place.z, 3.5), max(place.z, 3.5) + length)
    draw_shadow(canvas, Place(place.x, (box.near + box.far) / 2), width / 2, length / 2)
    instance = canvas.new_instance(label)
    _wheels(canvas, box, label, instance, 0.3 if height < 2 else 0.48)
    box.draw(canvas, label, paint, instance)
    return box, instance


def draw_car(canvas: Canvas, place: Place) -> None:
    """A car from behind, cabin on body; it may have any of `PAINTS`."""
    rng = canvas.rng
    paint = PAINTS[rng.integers(len(PAINTS))] * rng.uniform(0.85, 1.1)
    width, length = rng.uniform(1.65, 1.85), rng.uniform(3.8, 4.6)
    body, instance = _vehicle(canvas, place, "car", (width, 0.95, length), 0.22, paint)
    cabin = _Box(body.left + 0.14, body.right - 0.14, 0.93, rng.uniform(1.4, 1.65), body.near + 0.35, body.far - 1.1)
    cabin.draw(canvas, "car", paint, instance)
    _windows(canvas, cabin, 2, (0.1, 0.1, 0.15, 0.2))
    _lights(canvas, body)


def draw_truck(canvas: Canvas, place: Place) -> None:
    """A box without windows on a dark chassis."""
    rng = canvas.rng
    paint = PAINTS[rng.integers(len(PAINTS))]
    box, instance = _vehicle(canvas, place, "truck", (2.4, rng.uniform(3.0, 3.8), rng.uniform(6, 9)), 0.8, paint)
    chassis = _Box(box.left + 0.1, box.right - 0.1, 0.45, 0.82, box.near, box.far)
    chassis.draw(canvas, "truck", np.array([50.0, 50.0, 52.0]), instance)
    for level in (0.1, 0.5):
        canvas.paint(box.face(canvas, "near", (0.49, 0.49, level, 0.05)), canvas.light.on(paint * 0.6, box.near))
    _lights(canvas, chassis)


def draw_bus(canvas: Canvas, place: Place) -> None:
    """A box with a row of windows and lights at the rear."""
    rng = canvas.rng
    paint = np.array([(200, 60, 50), (215, 180, 60), (70, 100, 150), (205, 205, 205)], float)[rng.integers(4)]
    box, _ = _vehicle(canvas, place, "bus", (2.5, 3.1, rng.uniform(9, 12)), 0.35, paint)
    _windows(canvas, box, 6, (0.08, 0.08, 0.45, 0.12))
    _lights(canvas, _Box(box.left, box.right, 0.4, 0.9, box.near, box.far))


def draw_train(canvas: Canvas, place: Place) -> None:
    """A tram on the road: twice as long as a bus, with a stripe."""
    rng = canvas.rng
    paint = np.array([(205, 190, 120), (170, 40, 45), (215, 215, 210), (60, 110, 90)], float)[rng.integers(4)]
    box, instance = _vehicle(canvas, place, "train", (2.4, 3.4, rng.uniform(18, 28)), 0.25, paint)
    stripe = _Box(box.left, box.right, 0.9, 1.3, box.near, box.far)
    stripe.draw(canvas, "train", paint * 0.5, instance)
    _windows(canvas, box, 9, (0.12, 0.12, 0.5, 0.16))
