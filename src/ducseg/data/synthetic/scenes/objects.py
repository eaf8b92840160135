"""What stands in the street: posts with lights and signs, trees, people, two-wheelers. Sizes in metres."""

from collections.abc import Callable

import numpy as np

from ducseg.data.synthetic.scenes.canvas import Canvas, Colour, Points
from ducseg.data.synthetic.scenes.street import Street
from ducseg.data.synthetic.scenes.vehicles import PAINTS, Place, draw_bus, draw_car, draw_shadow, draw_train, draw_truck

__all__ = ["draw_ego_vehicle", "draw_objects"]

_SIGNS = np.array([(190, 30, 35), (40, 70, 160), (225, 195, 60), (225, 225, 225), (60, 120, 70)], float)
_CLOTHES = np.array(
    [(40, 45, 60), (120, 40, 45), (60, 75, 60), (150, 145, 140), (35, 35, 38), (70, 90, 140), (180, 170, 150)], float
)
_Draw = Callable[[Canvas, Place], None]


def draw_objects(canvas: Canvas, street: Street) -> None:
    """Draw a random choice of objects, far ones first."""
    rng = canvas.rng
    placed: list[tuple[float, _Draw, Place]] = []

    def put(draw: _Draw, x: float, z: float) -> None:
        placed.append((z, draw, Place(x, z)))

    for side in (-1.0, 1.0):
        curb = street.road + 0.4
        for z in np.arange(rng.uniform(6, 14), 70, rng.uniform(9, 18)):
            put(_lamp if rng.random() < 0.6 else _signed_pole, side * curb, float(z))
        for _ in range(rng.integers(0, 4)):
            put(_tree, side * (street.road + street.walk + rng.uniform(0.2, 2)), rng.uniform(10, 70))
        for _ in range(rng.integers(1, 6)):
            put(_person, side * (street.road + rng.uniform(0.5, street.walk)), 5 + 45 * rng.random() ** 1.3)
        for z in np.arange(rng.uniform(6, 16), 60, rng.uniform(6, 14)):
            if rng.random() < 0.5:
                put(draw_car, side * (street.road - 1.0), float(z))
        if rng.random() < 0.55:
            put(_traffic_light, side * curb, rng.uniform(9, 40))
        if rng.random() < 0.35:
            put(_bin, side * (street.road + 0.9), rng.uniform(7, 30))
        if rng.random() < 0.45:
            put(_bicycle, side * (street.road + rng.uniform(0.4, 1.2)), rng.uniform(6, 25))
        if rng.random() < 0.25:
            put(_motorcycle, side * (street.road + rng.uniform(0.2, 1.0)), rng.uniform(6, 25))
    lane = street.road / 2
    traffic: tuple[tuple[_Draw, float, float, float], ...] = (
        (draw_car, 0.7, 9, 60), (draw_truck, 0.38, 12, 45), (draw_bus, 0.38, 12, 45), (draw_train, 0.35, 14, 50),
        (_cyclist, 0.5, 7, 28), (_motorcyclist, 0.35, 8, 30), (_person, 0.25, 9, 30),
    )  # fmt: skip
    for draw, chance, nearest, farthest in traffic:
        if rng.random() < chance:
            put(draw, float(rng.choice([-1, 1])) * lane * rng.uniform(0.8, 1.2), rng.uniform(nearest, farthest))
    for _, paint, place in sorted(placed, key=lambda entry: -entry[0]):
        paint(canvas, place)


def draw_ego_vehicle(canvas: Canvas) -> None:
    """The bonnet of the camera's own car at the bottom: a label that is ignored."""
    height, width = canvas.camera.height, canvas.camera.width
    u = np.linspace(0, width - 1, 24)
    v = height * (0.985 - 0.055 * np.sin(np.pi * u / width))
    outline = np.concatenate([np.stack([u, v], 1), [(width - 1, height - 1), (0, height - 1)]])
    canvas.fill("ego vehicle", outline, canvas.light.on([55, 58, 62], 1.0), grain=4)


# -- flat things, turned to the camera --------------------------------------------------------------------------------


def _flat(canvas: Canvas, place: Place, outline: Points) -> Points:
    """An outline (n, 2) of metres beside and above a place, in pixels."""
    depth = np.full(len(outline), place.z)
    return canvas.camera.project(np.stack([outline[:, 0] + place.x, outline[:, 1], depth], 1))


def _box_outline(left: float, bottom: float, right: float, top: float) -> Points:
    return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])


def _round(x: float, y: float, radius: float, corners: int = 14) -> Points:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def _post(canvas: Canvas, place: Place, height: float, colour: Colour) -> None:
    """A pole one to four pixels wide, whatever its distance: the thin class that DUC is about."""
    foot, top = _flat(canvas, place, np.array([(0, 0), (0, height)]))
    pixels = int(np.clip(round(0.1 * canvas.camera.focal / place.z), 1, 4))
    left = round(foot[0]) - pixels // 2
    outline = np.array([(left, foot[1]), (left + pixels - 1, foot[1]), (left + pixels - 1, top[1]), (left, top[1])])
    canvas.fill("pole", outline, canvas.light.on(colour, place.z))


def _lamp(canvas: Canvas, place: Place) -> None:
    rng = canvas.rng
    _post(canvas, place, rng.uniform(5, 9), np.full(3, rng.uniform(45, 170)))


def _signed_pole(canvas: Canvas, place: Place) -> None:
    rng = canvas.rng
    grey = np.full(3, rng.uniform(90, 170))
    height = rng.uniform(2.2, 3.2)
    _post(canvas, place, height, grey)
    size = rng.uniform(0.25, 0.45)
    colour = _SIGNS[rng.integers(len(_SIGNS))]
    shape = _round(0, height, size) if rng.random() < 0.6 else _box_outline(-size, height - size, size, height + size)
    canvas.fill("traffic sign", _flat(canvas, place, shape), canvas.light.on(colour, place.z))
    if rng.random() < 0.5:
        canvas.paint(_flat(canvas, place, _round(0, height, 0.55 * size)), canvas.light.on([228, 228, 225], place.z))


def _traffic_light(canvas: Canvas, place: Place) -> None:
    rng = canvas.rng
    height = rng.uniform(2.4, 3.4)
    _post(canvas, place, height, np.full(3, rng.uniform(50, 130)))
    canvas.fill("traffic light", _flat(canvas, place, _box_outline(-0.2, height - 0.5, 0.2, height + 0.5)),
                canvas.light.on([30, 32, 34], place.z))  # fmt: skip
    level, colour = ((0.32, (235, 60, 50)), (0.0, (240, 190, 60)), (-0.32, (70, 220, 120)))[rng.integers(3)]
    canvas.paint(_flat(canvas, place, _round(0, height + level, 0.13)), np.array(colour, float))


def _bin(canvas: Canvas, place: Place) -> None:
    colour = canvas.light.on(PAINTS[canvas.rng.integers(len(PAINTS))] * 0.7, place.z)
    canvas.fill("static", _flat(canvas, place, _box_outline(-0.3, 0, 0.3, 1.0)), colour)


def _tree(canvas: Canvas, place: Place) -> None:
    rng = canvas.rng
    trunk, crown = rng.uniform(1.8, 3.2), rng.uniform(1.2, 2.6)
    brown = canvas.light.on(np.array([80.0, 65.0, 52.0]) * rng.uniform(0.7, 1.2), place.z)
    canvas.fill("vegetation", _flat(canvas, place, _box_outline(-0.14, 0, 0.14, trunk + 0.5)), brown)
    angle = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    radius = crown * rng.uniform(0.72, 1.12, len(angle))
    outline = np.stack([radius * np.cos(angle), trunk + crown + 1.1 * radius * np.sin(angle)], 1)
    green = np.array([60.0, 90.0, 46.0]) * rng.uniform(0.6, 1.35) + rng.uniform(-10, 10, 3)
    canvas.fill("vegetation", _flat(canvas, place, outline), canvas.light.on(green, place.z), grain=30)


def _figure(canvas: Canvas, place: Place, label: str, *, lift: float = 0.0, instance: int) -> None:
    """A standing, walking or sitting human figure in two kinds of clothes."""
    rng = canvas.rng
    size = rng.uniform(0.92, 1.08)
    stride = rng.uniform(0.02, 0.28)
    top, hip, leg = 1.75, 0.92, 0.2
    body = np.array([
        (-stride - 0.08, 0), (-stride + 0.1, 0), (0, hip - 0.2), (stride - 0.1, 0), (stride + 0.08, 0), (leg, hip),
        (0.26, 1.05), (0.27, 1.4), (0.1, 1.5), (0.11, 1.68), (0.05, top), (-0.05, top), (-0.11, 1.68), (-0.1, 1.5),
        (-0.27, 1.4), (-0.26, 1.05), (-leg, hip),
    ])  # fmt: skip
    outline = body * size + (0, lift)
    trousers, jacket = _CLOTHES[rng.integers(len(_CLOTHES))], _CLOTHES[rng.integers(len(_CLOTHES))]
    canvas.fill(label, _flat(canvas, place, outline), canvas.light.on(trousers, place.z), instance=instance)
    canvas.paint(
        _flat(canvas, place, _box_outline(-0.24, 0.95, 0.24, 1.42) * size + (0, lift)), canvas.light.on(jacket, place.z)
    )
    skin = np.array([200.0, 160.0, 135.0]) * rng.uniform(0.5, 1.1)
    canvas.paint(_flat(canvas, place, _round(0, 1.62, 0.09) * size + (0, lift)), canvas.light.on(skin, place.z))


def _person(canvas: Canvas, place: Place) -> None:
    draw_shadow(canvas, place, 0.4)
    _figure(canvas, place, "person", instance=canvas.new_instance("person"))


def _two_wheeler(canvas: Canvas, place: Place, label: str, radius: float, reach: float, bulk: float) -> None:
    """Two wheels and what is between them, seen from the side."""
    instance = canvas.new_instance(label)
    light, rng = canvas.light, canvas.rng
    paint = light.on(PAINTS[rng.integers(len(PAINTS))], place.z)
    rubber = light.on([38, 38, 40], place.z)
    for x in (-reach, reach):
        canvas.fill(label, _flat(canvas, place, _round(x, radius, radius)), rubber, instance=instance)
    frame = np.array([
        (-reach, radius), (-0.3 * reach, radius - 0.06), (reach, radius), (0.75 * reach, radius + 0.62),
        (0.55 * reach, radius + 0.62), (0.6 * reach, radius + bulk), (-0.5 * reach, radius + bulk),
    ])  # fmt: skip
    canvas.fill(label, _flat(canvas, place, frame), paint, instance=instance)


def _bicycle(canvas: Canvas, place: Place) -> None:
    _two_wheeler(canvas, place, "bicycle", 0.34, 0.52, 0.38)


def _motorcycle(canvas: Canvas, place: Place) -> None:
    _two_wheeler(canvas, place, "motorcycle", 0.31, 0.68, 0.52)


def _cyclist(canvas: Canvas, place: Place) -> None:
    draw_shadow(canvas, place, 0.7)
    _bicycle(canvas, place)
    _figure(canvas, place, "rider", lift=0.25, instance=canvas.new_instance("rider"))


def _motorcyclist(canvas: Canvas, place: Place) -> None:
    draw_shadow(canvas, place, 0.8)
    _motorcycle(canvas, place)
    _figure(canvas, place, "rider", lift=0.15, instance=canvas.new_instance("rider"))
