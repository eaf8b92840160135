"""`ducseg figure patches`: the paper's Figure 5, what gridding does to patches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ducseg.cli.options import Examples
from ducseg.errors import whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Examples):
    """Draw patches of the truth above what networks make of them, a row each: Figure 5, gridding without HDC.

    A patch a picture: where the first and the last network differ most.
    """

    count: int = 5
    """So many pictures, spread evenly."""
    side: int = 128
    """Of a patch, in pixels."""


def run(options: Options) -> int:
    """Print where it is."""
    from ducseg.figures.sheet import draw_sheet
    from ducseg.inference.examples import most_different

    side = whole("--side", options.side, least=8, fix="128 shows a lattice of 16 to 40 pixels.")
    networks = options.networks()
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for example in options.examples(networks):
        top, left = most_different(example, side)
        truth = {} if example.truth is None else {"ground truth": example.truth}
        for name, shown in ({"input": example.image} | truth | example.labels).items():
            rows.setdefault(name, []).append(shown[top : top + side, left : left + side])
    classes = next(iter(networks.values())).classes
    draw_sheet(options.out, list(rows.values()), classes, names=list(rows), width=options.inches)
    print(f"figure: {options.out}")
    return 0
