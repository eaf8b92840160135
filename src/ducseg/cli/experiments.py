"""`ducseg experiments`: what there is to train."""

from dataclasses import dataclass

from ducseg.cli.options import folded

__all__ = ["Options", "run"]


@dataclass(frozen=True)
class Options:
    """List the experiments: what each one trains, and the command."""


def run(options: Options) -> int:
    """Print each experiment's docstring."""
    from ducseg.experiments import EXPERIMENTS

    for name, function in EXPERIMENTS.items():
        lines = [line.strip() for line in (function.__doc__ or "").strip().splitlines()]
        print(f"{name}\n" + "".join(f"{folded(line, first='    ')}\n" for line in lines if line))
    return 0
