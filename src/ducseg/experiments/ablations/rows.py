"""What a table of an ablation is: rows, each a configuration, what of it is studied, and the number that is published.

A row gives the paper's own configuration (`ducseg.experiments`, one function a published row). At small scale
`ducseg.experiments.ablations.small` keeps the fields that are studied and takes all others from the data set's recipe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ducseg.train.config import Config

__all__ = ["Published", "Row", "Scoring", "Table", "changed"]

Tag = Literal["P", "D", "C", "2"]
"""P the paper's text, D arithmetic on what its text states, C the authors' code or page, 2 a secondary source."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published mean IoU in per cent, and how sure it is."""

    value: float
    tag: Tag

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.tag}]"


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How a trained network is looked through: at several sizes, mirrored too, refined by the CRF of a paper."""

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: Literal["", "paper", "deeplabv2", "gcrf"] = ""

    @property
    def plain(self) -> bool:
        """Whether it is what training's own evaluation does."""
        return self == Scoring()

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"scales": list(self.scales), "flip": self.flip, "crf": self.crf or False}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    Attributes:
        name: what --rows takes.
        title: what it is, in words.
        config: the paper's configuration; None: a network that this package does not have.
        only_small: why there is none at full scale; empty: there is.
        change: fields by dotted name ("model.head"), at either scale.
        small: fields at small scale only, for what the paper's data set alone has.
        scoring: rows that differ in it alone share one training.
        paper: None: not recovered.
        before: what is trained before it, each from the one before.
        before_small: whether at small scale too, where else every row has one budget.
    """

    name: str
    title: str
    config: Callable[[], Config] | None
    only_small: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    scoring: Scoring = Scoring()
    paper: Published | None = None
    before: tuple[Callable[[], Config], ...] = ()
    before_small: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: of the paper, or a question of ours.

    Attributes:
        name: what `ducseg ablate` takes.
        title: what it is about; for the paper's, where its numbers come from.
        data: the data set of the paper's configurations.
        of_paper: whether the paper has it; else it is a question of ours.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    data: str = "cityscapes"
    of_paper: bool = True


def changed(config: Config, fields: Mapping[str, Any]) -> Config:
    """A configuration with other values in fields given by dotted name: {"model.head": "duc"}."""
    for name, value in fields.items():
        section, _, key = name.partition(".")
        config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    return config
