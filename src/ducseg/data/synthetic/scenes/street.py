"""The street itself: sky, ground, and what lines it: buildings, walls, fences, hedges."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ducseg.data.synthetic.scenes.canvas import CAMERA_HEIGHT, Camera, Canvas, Light, Points, noise

__all__ = ["FAR", "Street", "draw_street", "random_light"]

FAR = 90.0
NEAR = 2.2
_FACADES = np.array(
    [(150, 110, 90), (170, 165, 155), (120, 120, 125), (185, 165, 130), (95, 90, 90), (200, 195, 185)], float
)


class Street:
    """Widths in metres: the road from -road to road, sidewalks beyond, then a strip of terrain, then the fronts.

    Attributes:
        marked: whether the road has lines painted on it.
    """

    def __init__(self, rng: np.random.Generator, *, marked: bool = True) -> None:
        self.marked = marked
        self.road = float(rng.uniform(3.5, 6.5))
        self.walk = float(rng.uniform(1.8, 4.0))
        self.strip = float(rng.choice([0.0, 1.5, 4.0], p=[0.3, 0.3, 0.4]))

    @property
    def front(self) -> float:
        """Distance of the building fronts from the middle of the road."""
        return self.road + self.walk + self.strip


def random_light(rng: np.random.Generator) -> Light:
    """Noon, dull day, evening or dusk, with some haze."""
    tint = np.array([(1.0, 0.98, 0.94), (0.82, 0.85, 0.9), (1.0, 0.86, 0.7), (0.55, 0.58, 0.7)])[rng.integers(4)]
    haze = np.array([200.0, 205.0, 212.0]) * tint
    return Light(
        tint=tint * rng.uniform(0.85, 1.1),
        haze=haze,
        haze_distance=float(rng.uniform(90, 320)),
        sun_from_left=bool(rng.random() < 0.5),
    )


def draw_street(canvas: Canvas, street: Street) -> None:
    """Paint sky, ground and both sides of the street, from far to near."""
    _draw_sky(canvas)
    _draw_ground(canvas, street)
    for side in (-1, 1):
        _draw_side(canvas, street, side)


def _draw_sky(canvas: Canvas) -> None:
    camera, light, rng = canvas.camera, canvas.light, canvas.rng
    bottom = int(camera.horizon) + 1
    canvas.fill("sky", _rectangle(0, 0, camera.width, bottom), None)
    top = np.array([110.0, 150.0, 205.0]) * light.tint * rng.uniform(0.8, 1.1)
    fade = np.linspace(0, 1, bottom, dtype=np.float32)[:, None, None] ** 0.8
    sky = top * (1 - fade) + light.haze * fade
    clouds = np.clip(noise(rng, bottom, camera.width, max(4, camera.width // 9)) - rng.uniform(-0.3, 0.7), 0, 1)
    sky = sky + (np.array([242.0, 242.0, 245.0]) * light.tint - sky) * cv2.GaussianBlur(clouds, (0, 0), 2)[..., None]
    canvas.image[:bottom] = sky


def _draw_ground(canvas: Canvas, street: Street) -> None:
    camera = canvas.camera
    x, z, first = camera.ground()
    wide = 60.0
    canvas.fill("terrain", _rectangle(0, first, camera.width, camera.height), None)
    canvas.fill("sidewalk", _strip(camera, -street.road - street.walk, street.road + street.walk), None)
    canvas.fill("road", _strip(camera, -street.road, street.road), None)
    colour = _ground_colours(canvas, street, np.abs(x))
    tile = noise(canvas.rng, 256, 256, 6)
    columns = np.mod(x * 14, 255).astype(np.float32)
    rows = np.broadcast_to(np.mod(z * 14, 255).astype(np.float32), x.shape)
    grain = cv2.remap(tile, columns, rows, cv2.INTER_LINEAR)
    colour += 9 * (grain * np.exp(-z / 25))[..., None]
    colour *= 1 - 0.35 * _joints(x, z, street)[..., None]
    clear = np.exp(-z / canvas.light.haze_distance)[..., None]
    seen = colour * canvas.light.tint * clear + canvas.light.haze * (1 - clear)
    canvas.image[first:] = np.where((np.abs(x) < wide)[..., None], seen, canvas.light.haze)
    if street.marked:
        _draw_markings(canvas, street)


def _ground_colours(canvas: Canvas, street: Street, distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Asphalt, paving and grass: greys that overlap from scene to scene, so that place matters more than colour."""
    rng = canvas.rng
    asphalt = np.full(3, rng.uniform(70, 130)) + rng.uniform(-6, 6, 3)
    paving = np.full(3, rng.uniform(95, 165)) + rng.uniform(-10, 10, 3)
    green = np.array([92.0, 108.0, 62.0]) * rng.uniform(0.7, 1.25) + rng.uniform(-12, 12, 3)
    on_road = (distance < street.road)[..., None]
    on_walk = (distance < street.road + street.walk)[..., None]
    return np.where(on_road, asphalt, np.where(on_walk, paving, green)).astype(np.float32)


def _joints(x: NDArray[np.float32], z: NDArray[np.float32], street: Street) -> NDArray[np.float32]:
    """Where curb stones and paving joints are dark: (rows, W) of 0..1."""
    distance = np.abs(x)
    curb = np.abs(distance - street.road) < 0.1
    walk = (distance > street.road) & (distance < street.road + street.walk) & (z < 22)
    joint = walk & ((np.mod(x, 0.9) < 0.06) | (np.mod(z, 0.9) < 0.08))
    return np.where(curb, 0.9, np.where(joint, 0.6, 0)).astype(np.float32)


def _draw_markings(canvas: Canvas, street: Street) -> None:
    rng, camera = canvas.rng, canvas.camera
    white = np.array([205.0, 205.0, 200.0])
    for start in np.arange(rng.uniform(2, 6), 60, 6.0):
        stripe = _on_ground(camera, -0.08, 0.08, float(start), float(start) + 3)
        canvas.paint(stripe, canvas.light.on(white, float(start)))
    if rng.random() < 0.3:
        z = float(rng.uniform(8, 25))
        for x in np.arange(-street.road + 0.3, street.road - 0.5, 1.0):
            canvas.paint(_on_ground(camera, float(x), float(x) + 0.5, z, z + 3), canvas.light.on(white, z))
    for _ in range(rng.integers(0, 3)):
        x, z = rng.uniform(-street.front, street.front), rng.uniform(4, 30)
        canvas.darken(_on_ground(camera, x, x + rng.uniform(1, 6), z, z + rng.uniform(2, 10)), rng.uniform(0.55, 0.8))


def _draw_side(canvas: Canvas, street: Street, side: int) -> None:
    """Blocks along one side, from far to near."""
    rng = canvas.rng
    edges = [FAR]
    while edges[-1] > 6:
        edges.append(edges[-1] - float(rng.uniform(6, 18)))
    kinds = ["building", "hedge", "wall", "fence", "open"]
    for far, near in pairwise(edges):
        kind = rng.choice(kinds, p=[0.58, 0.14, 0.1, 0.1, 0.08])
        near = max(near, NEAR)
        if kind == "building":
            _draw_building(canvas, side * street.front, near, far)
        elif kind == "hedge":
            _draw_hedge(canvas, side * street.front, near, far)
        elif kind == "wall":
            grey = rng.uniform(90, 190) + rng.uniform(-15, 15, 3)
            _draw_barrier(canvas, "wall", side * street.front, near, far, float(rng.uniform(1.2, 3)), grey)
        elif kind == "fence":
            _draw_fence(canvas, side * street.front, near, far)


def _draw_building(canvas: Canvas, x: float, near: float, far: float) -> None:
    rng, light, camera = canvas.rng, canvas.light, canvas.camera
    height = float(rng.uniform(6, 22))
    colour = _FACADES[rng.integers(len(_FACADES))] * rng.uniform(0.8, 1.15)
    depth = float(np.sign(x)) * 12
    middle = (near + far) / 2
    end = camera.project([(x, 0, near), (x + depth, 0, near), (x + depth, height, near), (x, height, near)])
    front = camera.project([(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)])
    canvas.fill("building", end, light.on(colour, near, 0.85), grain=8)
    canvas.fill("building", front, light.on(colour, middle, light.side(left=x > 0)), grain=8)
    glass = np.array([60.0, 70.0, 85.0]) if rng.random() < 0.7 else np.array([190.0, 185.0, 150.0])
    storeys, columns = int(height // 3), max(1, int((far - near) // 2.6))
    for storey in range(storeys):
        bottom = 3 * storey + 1.0
        for column in range(columns):
            begin = near + (column + 0.25) * (far - near) / columns
            stop = begin + 0.5 * (far - near) / columns
            window = camera.project(
                [(x, bottom, begin), (x, bottom, stop), (x, bottom + 1.5, stop), (x, bottom + 1.5, begin)]
            )
            canvas.paint(window, light.on(glass * rng.uniform(0.6, 1.3), begin))


def _draw_hedge(canvas: Canvas, x: float, near: float, far: float) -> None:
    rng, camera = canvas.rng, canvas.camera
    z = np.linspace(near, far, 14)
    tops = rng.uniform(1.5, 6.5) * rng.uniform(0.7, 1.15, len(z))
    lower = camera.project(np.stack([np.full_like(z, x), np.zeros_like(z), z], 1))
    upper = camera.project(np.stack([np.full_like(z, x), tops, z], 1))
    green = np.array([62.0, 88.0, 48.0]) * rng.uniform(0.6, 1.3) + rng.uniform(-8, 8, 3)
    seen = canvas.light.on(green, (near + far) / 2, canvas.light.side(left=x > 0))
    canvas.fill("vegetation", np.concatenate([lower, upper[::-1]]), seen, grain=26)


def _draw_barrier(canvas: Canvas, label: str, x: float, near: float, far: float, height: float, colour: Points) -> None:
    outline = canvas.camera.project([(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)])
    seen = canvas.light.on(colour, (near + far) / 2, canvas.light.side(left=x > 0))
    canvas.fill(label, outline, seen, grain=10)


def _draw_fence(canvas: Canvas, x: float, near: float, far: float) -> None:
    """The label covers the whole panel, as Cityscapes' annotators draw it; the picture shows bars before green."""
    rng, camera = canvas.rng, canvas.camera
    height = float(rng.uniform(1.2, 2.2))
    outline = camera.project([(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)])
    green = np.array([85.0, 95.0, 70.0]) * rng.uniform(0.7, 1.2)
    canvas.fill("fence", outline, canvas.light.on(green, (near + far) / 2), grain=18)
    bar = rng.uniform(40, 170) + rng.uniform(-10, 10, 3)
    for z in np.arange(near, far, 0.5):
        post = camera.project([(x, 0, z), (x, 0, z + 0.12), (x, height, z + 0.12), (x, height, z)])
        canvas.paint(post, canvas.light.on(bar, float(z)))
    for level in (0.15, height - 0.1):
        rail = camera.project([(x, level, near), (x, level, far), (x, level + 0.1, far), (x, level + 0.1, near)])
        canvas.paint(rail, canvas.light.on(bar, (near + far) / 2))


def _strip(camera: Camera, left: float, right: float) -> Points:
    """The part of the ground between two X, from the horizon to just below the picture."""
    nearest = camera.focal * CAMERA_HEIGHT / (camera.height - camera.horizon)
    return _on_ground(camera, left, right, 0.97 * nearest, 4000.0)


def _on_ground(camera: Camera, left: float, right: float, near: float, far: float) -> Points:
    return camera.project([(left, 0, near), (left, 0, far), (right, 0, far), (right, 0, near)])


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right - 1, top), (right - 1, bottom - 1), (left, bottom - 1)], float)
