"""What a run folder says, as a report needs it: configuration, description of the best checkpoint, log, evaluations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ducseg.classes import ClassSet
from ducseg.errors import MALFORMED, UserError, explain
from ducseg.figures.curves import Curves
from ducseg.figures.evaluation_folder import Evaluated, Followed, read_evaluations, read_samples, split_name
from ducseg.files import PLAN, find_checkpoint, parse_json

__all__ = ["RunResults", "as_percent", "distinct_names"]


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """One run.

    Attributes:
        config: the run's config.json.
        model: model.json of its best checkpoint; {} before the first one.
        curves: None before the first step.
        evaluations: by split, as `ducseg eval --store` left them.
        plan: lines of plan.txt, "setting: value and why", where `ducseg train DIR` planned the run.
    """

    folder: Path
    config: dict[str, Any]
    model: dict[str, Any]
    curves: Curves | None
    evaluations: dict[str, Evaluated]
    samples: list[Followed]
    plan: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a run folder, finished or not.

        Raises:
            UserError: no run folder, or files in it that do not read.
        """
        try:
            config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
            return cls(
                folder=folder,
                config=config,
                model=_read_model(folder),
                curves=_read_curves(folder / "log.jsonl"),
                evaluations=read_evaluations(folder),
                samples=read_samples(folder),
                plan=_read_plan(folder / PLAN),
            )
        except (OSError, AssertionError, *MALFORMED) as error:
            raise explain(
                f"run {folder}",
                found=_reason(error) if (folder / "config.json").is_file() else "no config.json",
                needed="a folder that `ducseg train` wrote",
                fix="Give the run folder itself, the one that holds config.json and log.jsonl.",
            ) from error

    @property
    def extra(self) -> dict[str, Any]:
        """What training recorded beside the network: step, command, versions, machine."""
        return self.model.get("extra") or {}

    @property
    def classes(self) -> ClassSet | None:
        """Of the best checkpoint."""
        described = self.model.get("classes")
        return None if described is None else ClassSet.from_json(described)

    @property
    def scores(self) -> dict[str, Any]:
        """Of the stored evaluation on the split that the run validated on, else of the best checkpoint; {} if none."""
        return (self.model.get("metrics") or {}) if self.stored is None else self.stored.scores

    @property
    def how_scored(self) -> str:
        """What of the scores' making is not as usual, "at scales 0.5, 1, mirrored"; "" if nothing."""
        trained = {"bf16": self.config.get("run", {}).get("eval_bf16")} if self.scores else {}
        about = trained if self.stored is None else self.stored.about
        scales = [f"{scale:g}" for scale in about.get("scales") or [1.0]]
        ways = {
            f"at scale{'s' * (len(scales) > 1)} {', '.join(scales)}": scales != ["1"],
            "mirrored": about.get("flip"),
            "with the CRF": "crf" in about,
            "in bf16": about.get("bf16"),
        }
        return ", ".join(way for way, taken in ways.items() if taken)

    @property
    def stored(self) -> Evaluated | None:
        """The evaluation on the split that the run validated on."""
        return self.evaluations.get(split_name(self.config.get("data", {}).get("val_split") or "val"))

    @property
    def settings(self) -> dict[str, str]:
        """Every field of the configuration by its option's name."""
        flat = dict[str, str]()
        for section, fields in self.config.items():
            if isinstance(fields, dict):
                flat |= {f"{section}.{name.replace('_', '-')}": _text(value) for name, value in fields.items()}
            else:
                flat[section] = _text(fields)
        return flat


def distinct_names(folders: list[Path]) -> list[str]:
    """A short name for each run folder: its own, with the folders above it where two have the same."""
    parts = [folder.resolve().parts for folder in folders]
    length = 1
    while len({part[-length:] for part in parts}) < len(set(parts)):
        length += 1
    return ["/".join(part[-length:]) for part in parts]


def as_percent(fraction: float | None) -> str:
    """A stored score for a table, "-" where it is not defined."""
    return "-" if fraction is None or fraction != fraction else f"{100 * fraction:.1f}"


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, OSError) else repr(error)


def _read_plan(path: Path) -> tuple[str, ...]:
    return tuple(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()


def _read_curves(log: Path) -> Curves | None:
    try:
        return Curves.read(log)
    except UserError:  # no step yet
        return None


def _read_model(folder: Path) -> dict[str, Any]:
    checkpoint = find_checkpoint(folder)
    if checkpoint is None:
        return {}
    found: dict[str, Any] = parse_json((checkpoint / "model.json").read_text(encoding="utf-8"))
    return found


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)
