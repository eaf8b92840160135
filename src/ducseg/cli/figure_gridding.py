"""`ducseg figure gridding`: the paper's Figure 2, of networks as they are built."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

import tyro

from ducseg.cli.options import Figure

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Figure):
    """Draw from which places the middle of an encoder's last map can learn, block by block, a row a network: Figure 2.

    (`ducseg hdc RATES --figure FILE` draws it of rates alone.)
    """

    checkpoints: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CHECKPOINT")]
    """Checkpoints or run folders, ids on the Hugging Face Hub: such as one with HDC and one without."""
    titles: tuple[str, ...] = ()
    """Of the networks in the figure (default: the names of their folders)."""
    blocks: int = 4
    """From so many blocks on at most, spread evenly over the dilated part."""


def run(options: Options) -> int:
    """Print where it is."""
    from ducseg.errors import whole
    from ducseg.figures.gridding import draw_block_coverage
    from ducseg.models.encoder import num_channels_of
    from ducseg.ops.network_coverage import coverage_by_block
    from ducseg.weights.checkpoint import load_segmenter

    most = whole("--blocks", options.blocks, least=1, fix="4 fill a page.")
    rows = {}
    for title, checkpoint in options.titled(options.checkpoints, options.titles).items():
        encoder = load_segmenter(checkpoint).encoder
        channels = num_channels_of(encoder)
        rows[title] = coverage_by_block(cast("nn.Module", encoder), most=most, channels=channels)
    draw_block_coverage(options.out, rows, width=options.inches)
    print(f"figure: {options.out}")
    return 0
