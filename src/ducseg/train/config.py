"""Everything that decides a training run, as frozen dataclasses: what `config.json` beside each checkpoint holds.

An experiment (`ducseg.experiments`) is a function that returns a `Config`; the command line overrides single fields
(`--optimizer.learning-rate 0.01`). `Config.check` reports every conflict at once, before any data is touched.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from ducseg.data.config import DataConfig
from ducseg.data.ranges import fits, out_of_range
from ducseg.errors import UserError, explain
from ducseg.files import write_whole
from ducseg.train.sections import AugmentConfig, LossConfig, ModelConfig, OptimizerConfig, RunConfig

__all__ = [
    "AugmentConfig",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
]

_MAY_CHANGE = {
    *(("model", name) for name in ("weights", "weights_scope", "weights_optional")),
    *(("model", name) for name in ("allow_missing_weights", "recalibrate_batches")),
    *(("data", name) for name in ("root", "classes", "patches_root", "coco_root", "workers", "memory")),
}
_RUN_DECIDES = ("seed", "bf16", "sync_batch_norm", "best_by")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def check(self, world_size: int = 1) -> None:
        """Raise one `UserError` that lists every conflict of this configuration on `world_size` ranks."""
        outside = [line for name in _SECTIONS for line in out_of_range(name, getattr(self, name))]
        found = outside + self._conflicts(world_size)
        if not outside:  # it reckons with these numbers
            found += self._too_small(world_size)
        if found:
            raise UserError(f"configuration {self.name!r}: " + "; ".join(found))

    def _conflicts(self, world_size: int) -> list[str]:
        return [
            *self.model.conflicts(),
            *self.data.conflicts(),
            *self.augment.conflicts(),
            *self.optimizer.conflicts(world_size),
            *self.loss.conflicts(),
            *self.run.conflicts(),
            *self._endless(),
            *self._odd_crop(),
        ]

    def _odd_crop(self) -> list[str]:
        """The head's cells are whole."""
        cell, size = self.model.cell, self.augment.crop_size
        if cell < 1 or not any(side % cell for side in size):
            return []
        return [f"--augment.crop-size {' '.join(map(str, size))} must be multiples of --model.cell {cell}"]

    def _endless(self) -> list[str]:
        if (self.optimizer.epochs, self.optimizer.steps, self.run.minutes) != (None, None, None):
            return []
        return ["--optimizer.epochs None needs --optimizer.steps or --run.minutes: something must end the run"]

    def _too_small(self, world_size: int) -> list[str]:
        """Batch norm needs two places a channel to learn from."""
        if self.model.freeze_batch_norm_from_epoch == 0:
            return []
        pictures = self.optimizer.batch_size // self.optimizer.accumulation_steps
        if not self.run.sync_batch_norm:
            pictures //= world_size
        height, width = (-(-side // self.model.output_stride) for side in self.augment.crop_size)
        if pictures * height * width > 1:
            return []
        return [
            f"--optimizer.batch-size {self.optimizer.batch_size} with --augment.crop-size "
            f"{' '.join(map(str, self.augment.crop_size))} gives batch norm one place a channel at output stride "
            f"{self.model.output_stride}: take more pictures, a larger crop or --model.freeze-batch-norm-from-epoch 0"
        ]

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON-able dictionaries."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """The configuration that `to_json` wrote; fields that it does not have yet keep their defaults.

        Raises:
            UserError: a field that this version does not know.
        """
        kinds = get_type_hints(cls)
        sections = {name: _section(kinds[name], name, values[name]) for name in _SECTIONS if name in values}
        return cls(name=str(values.get("name", "run")), **sections)

    def unlike(self, earlier: dict[str, Any]) -> list[str]:
        """What an earlier run's `to_json` has otherwise of all that decides the result, as options: ["--a 1 (now 2)"].

        Fields that the earlier run did not have yet are passed over, so are places of files and the start's weights,
        which may have moved, and epochs or steps that have become more.
        """
        now, earlier = (json.loads(json.dumps(config)) for config in (self.to_json(), earlier))
        found = []
        for section in _SECTIONS:
            for name, value in earlier.get(section, {}).items():
                decides = name in _RUN_DECIDES if section == "run" else (section, name) not in _MAY_CHANGE
                if (section, name) == ("optimizer", "epochs"):
                    decides = now[section][name] is not None and (value is None or now[section][name] < value)
                if (section, name) == ("optimizer", "steps"):
                    decides = None in (value, now[section][name]) or now[section][name] < value
                if decides and name in now[section] and now[section][name] != value:
                    found.append(f"--{section}.{name.replace('_', '-')} {value} (now {now[section][name]})")
        return found

    def write(self, path: Path) -> None:
        """Write the resolved configuration as JSON, whole or not at all: without it a run's checkpoints are lost."""
        write_whole(path, (json.dumps(self.to_json(), indent=1) + "\n").encode())


_SECTIONS = tuple(field.name for field in dataclasses.fields(Config) if field.name != "name")


def _section(kind: type[Any], name: str, values: dict[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise explain(
            f"configuration section {name}",
            found=", ".join(unknown),
            needed="fields that this version knows",
            fix="It was written by another version of ducseg: go on with that one.",
        )
    read = {key: _tuples(value) for key, value in values.items()}
    hints = get_type_hints(kind, include_extras=True)
    strange = [f"{key} {str(value)[:40]!r}" for key, value in read.items() if not fits(value, hints[key])]
    if strange:
        raise explain(
            f"configuration section {name}",
            found=", ".join(strange),
            needed="values of their fields' types",
            fix="Bring the file back as it was written.",
        )
    return kind(**read)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that a configuration holds."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
