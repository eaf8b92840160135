"""The run around the steps: set-up, resume, evaluation, checkpoints, SIGTERM.

The sampler's order and all augmentation follow from (seed, epoch, index), so a step number is a full position.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from rich.console import Console

from ducseg.data.layouts.opening import open_dataset, open_training_set
from ducseg.data.loading import evaluation_indices, training_loader
from ducseg.errors import explain
from ducseg.figures.label_maps import overlay
from ducseg.inference.evaluate import evaluate
from ducseg.inference.predictor import Predictor
from ducseg.metrics.confusion import format_table, scores, to_json
from ducseg.models.heads import head_parameters
from ducseg.models.segmenter import Segmenter
from ducseg.train.checkpoint import CheckpointFolder, TrainState
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks, join_ranks
from ducseg.train.ema import MovingAverage
from ducseg.train.progress import TrainingProgress
from ducseg.train.run_log import RunLog, versions
from ducseg.train.setup import build_network, recalibrate, training_transform
from ducseg.train.step import TrainingStep
from ducseg.train.sync_batch_norm import synchronise_batch_norm
from ducseg.weights.checkpoint import load_segmenter, read_model_json

__all__ = ["EXIT_PREEMPTED", "Outcome", "train"]

EXIT_PREEMPTED = 75
"""Exit status after SIGTERM with everything saved (EX_TEMPFAIL: run the same command with --resume)."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    finished: bool
    """False after SIGTERM: saved, to be resumed."""
    checkpoint: Path | None
    """The newest checkpoint."""
    best_mean_iou: float | None


class _Trainer:
    def __init__(self, config: Config, out: Path, ranks: Ranks, console: Console, command: str) -> None:
        self.config, self.out, self.ranks, self.console, self.command = config, out, ranks, console, command
        torch.manual_seed(config.run.seed)
        self.val_set = open_dataset(config.data, config.data.val_split)
        self.segmenter, self.weights_line = build_network(config.model, self.val_set.classes)
        self.train_set = open_training_set(config.data, self.segmenter.preprocessing.mean_colour)
        self.transform = training_transform(config.augment, self.segmenter)
        self.checkpoints = CheckpointFolder(out, keep_last=config.run.keep_last)
        self.steps_per_epoch = len(self.train_set) // config.optimizer.batch_size
        if self.steps_per_epoch == 0:
            raise explain(
                "training set",
                found=f"{len(self.train_set)} pictures",
                needed=f"at least one batch of {config.optimizer.batch_size}",
                fix="Lower --optimizer.batch-size.",
            )
        self.num_steps = self.steps_per_epoch * config.optimizer.epochs
        self.step = 0
        self.best: tuple[float, int] | None = None  # mean IoU, step
        self.evaluated_step = 0
        self.average: MovingAverage | None = None
        self.stop_requested = False

    def describe(self) -> None:
        """Print what is about to run."""
        parameters = sum(parameter.numel() for parameter in self.segmenter.parameters())
        model = self.config.model
        heads = head_parameters(
            self.segmenter.encoder.out_channels,
            len(self.train_set.classes),
            output_stride=model.output_stride,
            cell=model.cell,
            aspp=model.aspp,
        )
        beside = f" (duc: {heads['duc'] / 1e6:.1f} M)" if model.head.startswith("deconv") else ""
        self.console.print(
            f"{self.config.name}: {len(self.train_set)} training and {len(self.val_set)} validation pictures, "
            f"{len(self.train_set.classes)} classes, {parameters / 1e6:.1f} M parameters, "
            f"{heads[model.head] / 1e6:.1f} M of them in the head{beside}, {self.num_steps} steps on "
            f"{self.ranks.world_size} x {self.ranks.device.type}; {self.weights_line}",
            highlight=False,
            soft_wrap=True,
        )

    # -- set-up -------------------------------------------------------------------------------------------------------

    def prepare(self, resume_from: Path | None) -> None:
        """Move the network to its device, restore a checkpoint or recalibrate, and make the optimizer."""
        config, device = self.config, self.ranks.device
        state, saved = self._read(resume_from)
        if state is not None and saved is not None:
            self.segmenter.load_state_dict(state.network or saved.state_dict())
        elif config.model.recalibrate_batches:
            batches = [batch["image"] for batch in self._loader(0, config.model.recalibrate_batches)]
            recalibrate(self.segmenter, batches)
        if self.ranks.world_size > 1 and config.run.sync_batch_norm:
            synchronise_batch_norm(self.segmenter, device)
        memory_format = torch.channels_last if config.run.channels_last else torch.contiguous_format
        self.segmenter.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
        if config.optimizer.ema_decay is not None:
            self.average = MovingAverage(self.segmenter, config.optimizer.ema_decay)
        self.training_step = TrainingStep(
            config, self.segmenter, self.ranks, num_steps=self.num_steps, steps_per_epoch=self.steps_per_epoch
        )
        if state is not None and saved is not None:
            self._restore(state, saved)

    def check_same_run(self, checkpoint: Path) -> None:
        """Raise UserError where the checkpoint is of a run that was configured otherwise."""
        description = read_model_json(checkpoint)
        earlier, architecture = (description.get("extra") or {}).get("config") or {}, self.segmenter.architecture
        differing = self.config.unlike(earlier) or [
            f"{key} {value} (now {architecture.get(key)})"
            for key, value in description["architecture"].items()
            if architecture.get(key) != value
        ]
        if differing:
            raise explain(
                f"cannot resume from {checkpoint}",
                found=", ".join(differing),
                needed="the options of the first command, which are not read from the run folder",
                fix=f"Repeat them with --resume, or start another --out with --model.weights {checkpoint}.",
            )

    def _read(self, checkpoint: Path | None) -> tuple[TrainState | None, Segmenter | None]:
        if checkpoint is None:
            return None, None
        saved = load_segmenter(checkpoint)
        return self.checkpoints.load_state(checkpoint), saved

    def _restore(self, state: TrainState, saved: Segmenter) -> None:
        self.step, self.evaluated_step = state.step, state.evaluated_step
        if state.best_mean_iou is not None and state.best_step is not None:
            self.best = (state.best_mean_iou, state.best_step)
        self.training_step.skipped_batches = state.skipped_batches
        self.training_step.optimizer.load_state_dict(state.optimizer)
        torch.set_rng_state(state.torch_rng)
        if self.average is not None:
            self.average.segmenter.load_state_dict(saved.state_dict())

    def _loader(self, start_step: int, num_steps: int) -> Any:
        return training_loader(
            self.train_set,
            self.transform,
            batch_size=self.config.optimizer.batch_size // self.ranks.world_size,
            seed=self.config.run.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            start_step=start_step,
            num_steps=num_steps,
            num_workers=self.config.data.workers,
            pin_memory=self.ranks.device.type == "cuda",
        )

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train from the current step to the end, or until SIGTERM."""
        settings = self.config.run
        console = self.console if self.ranks.is_main else Console(quiet=True)
        log = None
        if self.ranks.is_main:
            log = RunLog(self.out, tensorboard=settings.tensorboard, resume_step=self.step)
        bar = TrainingProgress(
            console,
            num_steps=self.num_steps,
            num_epochs=self.config.optimizer.epochs,
            start_step=self.step,
            every_steps=settings.log_every_steps,
        )
        try:
            with self._on_sigterm(), bar:
                finished = self._run_steps(bar, log)
        finally:
            if log is not None:
                log.close()
        best = None if self.best is None else self.best[0]
        return Outcome(finished=finished, checkpoint=self.checkpoints.last(), best_mean_iou=best)

    def _run_steps(self, bar: TrainingProgress, log: RunLog | None) -> bool:
        """Every remaining step; False if SIGTERM ended them early."""
        first, began = self.step, time.monotonic()
        if self._evaluation_is_due() and self.evaluated_step != self.step:  # SIGTERM came between step and evaluation
            self._evaluate(log)
            self._save(None)
        batches = iter(self._loader(first, self.num_steps - first)) if first < self.num_steps else iter(())
        for step in range(first, self.num_steps):
            step_began = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - step_began
            values = self.training_step(batch, step)
            self.step = step + 1
            if self.average is not None:
                self.average.update(self.segmenter, self.step)
            seconds = time.monotonic() - step_began
            values["images_per_second"] = self.config.optimizer.batch_size / seconds
            values["waiting_share"] = waited / seconds
            if log is not None:
                log.step(self.step, values, board=self.step % self.config.run.log_every_steps == 0)
            left = (time.monotonic() - began) / (self.step - first) * (self.num_steps - self.step)
            bar.update(self.step, step // self.steps_per_epoch + 1, values, seconds_left=left)
            if self._asked_to_stop() and self.step < self.num_steps:
                self._save(None)
                return False
            self._at_boundaries(log)
        return True

    def _at_boundaries(self, log: RunLog | None) -> None:
        every = self.config.run.save_every_steps
        if self._evaluation_is_due():
            self._save(self._evaluate(log))
        elif self.step % self.steps_per_epoch == 0 or (every and self.step % every == 0):
            self._save(None)

    def _evaluation_is_due(self) -> bool:
        epoch, steps_over = divmod(self.step, self.steps_per_epoch)
        due = epoch % self.config.run.eval_every_epochs == 0 or self.step == self.num_steps
        return self.step > 0 and steps_over == 0 and due

    def _asked_to_stop(self) -> bool:
        """Whether any rank got SIGTERM: all must leave after the same step."""
        asked = torch.tensor(float(self.stop_requested), device=self.ranks.device)
        return bool(self.ranks.sum(asked).item())

    def _evaluate(self, log: RunLog | None) -> dict[str, Any]:
        """Score the validation set, each picture once over all ranks, at its own size."""
        predictor = Predictor(self.segmenter if self.average is None else self.average.segmenter, self.ranks.device)
        indices = evaluation_indices(len(self.val_set), self.ranks.rank, self.ranks.world_size)
        counted = torch.as_tensor(evaluate(predictor, self.val_set, indices=indices).matrix, device=self.ranks.device)
        found = scores(self.ranks.sum(counted).cpu().numpy(), self.val_set.classes)
        self.evaluated_step = self.step
        if self.best is None or found["mean_iou"] > self.best[0]:
            self.best = (found["mean_iou"], self.step)
        if log is not None:
            self.console.print(format_table(found))
            log.evaluation(self.step, found, self._overlays(predictor))
        return found

    def _overlays(self, predictor: Predictor) -> list[tuple[str, NDArray[Any]]]:
        if not self.config.run.tensorboard:
            return []
        samples = (self.val_set[index] for index in range(min(self.config.run.overlays, len(self.val_set))))
        return [(s.id, overlay(s.image, predictor(s.image), self.val_set.classes)) for s in samples]

    def _save(self, metrics: dict[str, Any] | None) -> None:
        """Write a checkpoint on rank 0; the others wait for it."""
        if self.ranks.is_main:
            averaged = self.average is not None
            state = TrainState(
                step=self.step,
                evaluated_step=self.evaluated_step,
                best_mean_iou=None if self.best is None else self.best[0],
                best_step=None if self.best is None else self.best[1],
                skipped_batches=self.training_step.skipped_batches,
                optimizer=self.training_step.optimizer.state_dict(),
                network=self.segmenter.state_dict() if averaged else None,
                torch_rng=torch.get_rng_state(),
            )
            segmenter = self.segmenter if self.average is None else self.average.segmenter
            extra = {"step": self.step, "config": self.config.to_json(), "command": self.command, **versions()}
            self.checkpoints.save(segmenter, state, metrics=to_json(metrics), extra=extra)
        self.ranks.wait()

    @contextmanager
    def _on_sigterm(self) -> Iterator[None]:
        def ask(_signal: int, _frame: object) -> None:
            self.stop_requested = True

        previous = signal.signal(signal.SIGTERM, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)


def train(
    config: Config, out: Path, *, resume: bool = False, command: str = "", console: Console | None = None
) -> Outcome:
    """Train one configuration in the run folder `out`.

    Args:
        config: the run (paper section 4 for what the fields mean).
        out: run folder: config.json, log.jsonl, tensorboard/, checkpoints/, and links `last` and `best`.
        resume: go on from the newest whole checkpoint in `out`; also done, unasked, after a restart by torchrun.
        command: what the user typed, recorded in each checkpoint.
        console: where progress is shown; None: standard output.

    Returns:
        The outcome; after SIGTERM everything is saved and `finished` is False.

    Raises:
        UserError: a conflict in the configuration, missing or bad data, weights that do not fit, a run folder in use,
            a loss that is not finite, a full disk.
    """
    with join_ranks(config.run.device) as ranks:
        config.check(ranks.world_size)
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        torch.backends.cudnn.benchmark = True
        trainer = _Trainer(config, out, ranks, console or Console(), command)
        last = trainer.checkpoints.last()
        resume = resume or ranks.restarts > 0
        if last is not None and not resume:
            raise explain(
                f"run folder {out}",
                found=f"the checkpoint {last.name} of an earlier run",
                needed="an empty folder",
                fix="Add --resume to go on with that run, or choose another --out.",
            )
        if last is not None:
            trainer.check_same_run(last)
        if ranks.is_main:
            _open_run_folder(trainer)
        trainer.prepare(last if resume else None)
        if ranks.is_main and last is not None:
            trainer.checkpoints.settle(None if trainer.best is None else trainer.best[1])
        ranks.wait()
        try:
            return trainer.run()
        finally:
            trainer.training_step.release()


def _open_run_folder(trainer: _Trainer) -> None:
    size = sum(t.numel() * t.element_size() for t in trainer.segmenter.state_dict().values())
    copies = 2 if trainer.config.optimizer.ema_decay is None else 3  # weights, momentum, the average
    trainer.checkpoints.check_space(copies * size)
    trainer.config.write(trainer.out / "config.json")
    trainer.describe()
