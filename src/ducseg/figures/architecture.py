"""The paper's Figure 1 for any network: its maps from the picture to the labels, as slabs, with sizes and rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ducseg.figures.plots import in_print, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Map", "draw_architecture", "shortened"]

_FACES = {"picture": "#d9d9d9", "encoder": "#9ecae8", "head": "#f6c36c", "scores": "#8fd3bd", "labels": "#8fd3bd"}
_GAP, _DEPTH = 0.42, 0.16


@dataclass(frozen=True, kw_only=True)
class Map:
    """One map on the way.

    Attributes:
        name: of the stage or module that makes it.
        channels, height, width: of the map.
        rates: dilation rates of the convolutions or blocks that make it, those of parallel paths too.
        how: how it is made, where that is not said by its rates ("shuffle by 8").
        joins: names of earlier maps that it takes besides the one before.
    """

    name: str
    kind: Literal["picture", "encoder", "head", "scores", "labels"]
    channels: int
    height: int
    width: int
    rates: tuple[int, ...] = ()
    how: str = ""
    joins: tuple[str, ...] = ()


def draw_architecture(path: Path, maps: Sequence[Map], *, width: float = 7.2) -> Path:
    """Draw the maps from left to right: as high as their places, as wide as their channels, both logarithmic.

    Args:
        path: its suffix is a format that matplotlib writes (pdf, png, svg).
        width: of the figure, in inches.

    Raises:
        UserError: as `save_figure`.
    """
    from matplotlib.figure import Figure

    with in_print():
        figure = Figure(figsize=(width, 0.3 * width), dpi=300)
        axes = figure.add_axes((0.005, 0.0, 0.99, 1.0))
        axes.axis("off")
        left, places = 0.0, dict[str, tuple[float, float]]()
        for index, one in enumerate(maps):
            high, wide = _size(one)
            if index:
                before, top = places[maps[index - 1].name]
                axes.annotate(
                    "", (left, 0), (before, 0), arrowprops={"arrowstyle": "-|>", "lw": 0.6, "color": "0.2"}
                )  # fmt: skip
            _draw_slab(axes, one, left, wide, high)
            for name in one.joins:
                start, top = places[name]
                middle = left + wide / 2
                axes.plot([start - _DEPTH, start - _DEPTH, middle, middle], [top, _above(top), _above(top), high / 2],
                          color="0.35", linewidth=0.6, linestyle=(0, (3, 2)))  # fmt: skip
            places[one.name] = left + wide + _DEPTH, high / 2 + _DEPTH / 2
            left += wide + max(_GAP, 1.05 - wide)
        tallest = max(_size(one)[0] for one in maps)
        axes.set_xlim(-0.25, left - 0.15)
        axes.set_ylim(-tallest / 2 - 1.25, tallest / 2 + 0.45)
        return save_figure(figure, path, option="--out")


def _above(top: float) -> float:
    return top + 0.22


def _size(one: Map) -> tuple[float, float]:
    """Height and width of the slab."""
    return 0.28 * max(1.0, one.height) ** 0.33, 0.055 * max(1, one.channels).bit_length()


def _draw_slab(axes: "Axes", one: Map, left: float, wide: float, high: float) -> None:
    from matplotlib.patches import Polygon

    right, top, bottom = left + wide, high / 2, -high / 2
    face = _FACES[one.kind]
    corners = [
        [(left, bottom), (right, bottom), (right, top), (left, top)],
        [(left, top), (right, top), (right + _DEPTH, top + _DEPTH / 2), (left + _DEPTH, top + _DEPTH / 2)],
        [(right, bottom), (right + _DEPTH, bottom + _DEPTH / 2), (right + _DEPTH, top + _DEPTH / 2), (right, top)],
    ]
    for side, shade in zip(corners, (1.0, 0.8, 0.6)):
        axes.add_patch(Polygon(side, facecolor=_shaded(face, shade), edgecolor="0.2", linewidth=0.5))
    middle = (left + right + _DEPTH) / 2
    axes.text(middle, bottom - 0.08, one.name, ha="center", va="top", fontsize=6.5, fontweight="bold")
    rates = f"rates {shortened(one.rates)}" if max(one.rates, default=1) > 1 else ""
    below = [f"{one.channels}", f"{one.height} x {one.width}", *filter(None, (rates, one.how))]
    axes.text(middle, bottom - 0.3, "\n".join(below), ha="center", va="top", fontsize=5.5, linespacing=1.25)


def _shaded(colour: str, shade: float) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 * shade for place in (1, 3, 5))


def shortened(rates: Sequence[int]) -> str:
    """Rates in few letters: what repeats once, as "1 2 5 9 (5 x), 1 2 5"."""
    for length in range(1, len(rates) // 2 + 1):
        group = list(rates[:length])
        times = next((n for n in range(1, len(rates) + 1) if list(rates[n * length : (n + 1) * length]) != group), 1)
        rest = list(rates[times * length :])
        if times > 1 and len(rest) < 2 * length:
            shown = f"{' '.join(map(str, group))} ({times} x)"
            return f"{shown},\n{' '.join(map(str, rest))}" if rest else shown
    return " ".join(map(str, rates))
