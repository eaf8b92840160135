"""`ducseg figure panels`: the paper's Figures 3 and 4, networks beside the truth."""

from dataclasses import dataclass

from ducseg.cli.options import Examples

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Examples):
    """Draw pictures, their truth and what networks make of them: Figure 3 (baseline, DUC) and 4 (DUC, DUC-HDC).

    Of classes whose colours the colour-blind take for one another, one is hatched.
    """


def run(options: Options) -> int:
    """Print where it is."""
    return options.draw(options.networks())
