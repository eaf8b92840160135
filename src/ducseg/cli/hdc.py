"""`ducseg hdc`: are these dilation rates safe?"""

from dataclasses import dataclass

import tyro

from ducseg.cli.options import File

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Check dilation rates for gridding: equation 2, exact coverage, receptive field. Exits with 1 on holes."""

    rates: tyro.conf.Positional[tuple[int, ...]]
    """Dilation rates from the first layer to the last, e.g. 1 2 5 9."""
    kernel: int = 3
    """Side of the kernels."""
    figure: File | None = None
    """Also draw the paper's Figure 2 for these rates."""


def run(options: Options) -> int:
    """Exit status 1 on holes."""
    from ducseg.ops.coverage import check, report

    print(report(options.rates, options.kernel))
    if options.figure is not None:
        from ducseg.figures.gridding import draw_gridding

        draw_gridding(options.rates, options.figure, kernel_size=options.kernel)
        print(f"figure: {options.figure}")
    return 0 if check(options.rates, options.kernel).ok else 1
