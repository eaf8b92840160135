"""`ducseg figure crf`: the paper's Figure 7, before and after the dense CRF."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ducseg.cli.options import Examples, File

if TYPE_CHECKING:
    from ducseg.inference.labeller import Labeller

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Examples):
    """Draw pictures, their truth and what a network makes of them before and after the dense CRF: Figure 7."""

    settings: tuple[File, ...] = ()
    """A JSON file of crf-tune (default: the paper's)."""


def run(options: Options) -> int:
    """Print where it is."""
    from ducseg.inference.refine import CrfLabeller, crf_settings

    settings = crf_settings(options.settings)
    networks = options.networks()
    before_and_after = dict[str, "Labeller"]()
    for title, network in networks.items():
        named = f"{title}, " if len(networks) > 1 else ""
        before_and_after[f"{named}before CRF"] = network
        before_and_after[f"{named}after CRF"] = CrfLabeller(network, *settings)
    return options.draw(before_and_after)
