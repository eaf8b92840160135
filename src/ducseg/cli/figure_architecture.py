"""`ducseg figure architecture`: the paper's Figure 1, of any network."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from ducseg.cli.options import Figure

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Figure):
    """Draw a network as it is built, Figure 1: its maps with their sizes and rates, how its head comes to pixels."""

    checkpoint: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CHECKPOINT")]
    """A checkpoint or run folder, or an id on the Hugging Face Hub."""
    size: Annotated[tuple[int, int], tyro.conf.arg(metavar="HEIGHT WIDTH")] = (512, 1024)
    """Height and width of the picture whose maps are drawn."""


def run(options: Options) -> int:
    """Print where it is."""
    from ducseg.figures.architecture import draw_architecture
    from ducseg.inference.outline import outline_of
    from ducseg.weights.checkpoint import load_segmenter

    draw_architecture(options.out, outline_of(load_segmenter(options.checkpoint), options.size), width=options.inches)
    print(f"figure: {options.out}")
    return 0
