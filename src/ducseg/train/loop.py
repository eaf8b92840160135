"""The run around the steps: what is saved, scored and said when, and how it ends.

The sampler's order and all augmentation follow from (seed, epoch, index), so a step number is a full position. At the
end of an epoch the checkpoint is saved first and scored then: an evaluation that fails or is interrupted loses nothing.
"""

import contextlib
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ducseg.classes import IGNORE
from ducseg.data.layouts.opening import data_notes, naming_the_check
from ducseg.data.loading import workers_watched
from ducseg.devices import in_bf16
from ducseg.errors import explain
from ducseg.files import PLAN, sweep_folder, write_whole
from ducseg.metrics.confusion import format_table, to_json
from ducseg.train.checkpoint import CheckpointFolder
from ducseg.train.config import Config
from ducseg.train.distributed import Ranks, join_ranks
from ducseg.train.pace import Pace
from ducseg.train.progress import TrainingProgress, printable
from ducseg.train.run_folder import (
    as_computed,
    check_same_run,
    checkpoint_to_resume,
    hold_run_folder,
    said_if_over,
    said_over,
)
from ducseg.train.run_log import RunLog, versions
from ducseg.train.sections import in_minutes
from ducseg.train.start import Start, describe, start_run
from ducseg.train.step import TrainingStep
from ducseg.train.stopping import Stopping
from ducseg.train.validate import deciding_score, estimate_seconds, follow_pictures, unfound_classes, validate

__all__ = ["EXIT_PREEMPTED", "Outcome", "train"]

EXIT_PREEMPTED = 75
"""Exit status after SIGTERM with everything saved (EX_TEMPFAIL: go on with `ducseg train --resume RUN`)."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    stopped_by: signal.Signals | None
    """The signal after which it was saved, to be resumed; None: it ran to its end."""
    checkpoint: Path | None
    """The newest checkpoint."""
    best_score: float | None = None
    """The highest of the scores that decide (`RunConfig.best_by`); None where no evaluation gave one."""
    seconds: float = 0.0
    """That it took, start, evaluations and earlier sessions included."""
    went_on: bool = True
    """False: a resumed run that was over before; nothing is changed."""
    is_main: bool = True
    """Whether this process is the run's first rank, which writes."""

    @property
    def finished(self) -> bool:
        """Whether it ran to its end."""
        return self.stopped_by is None


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    command: str = "",
    plan: Sequence[str] = (),
    console: Console | None = None,
) -> Outcome:
    """Train one configuration in the run folder `out`.

    Args:
        config: the run (paper section 4 for what the fields mean).
        out: run folder: config.json, log.jsonl, tensorboard/, checkpoints/, and links `last` and `best`.
        resume: go on from the newest whole checkpoint in `out`; also done, unasked, after a restart by torchrun.
        command: what the user typed, recorded in each checkpoint.
        plan: why the configuration is as it is, lines for plan.txt, by which the run is known to end with a report.
        console: where progress is shown; None: standard output.

    Returns:
        The outcome; after SIGTERM or Ctrl-C everything is saved and `finished` is False. Off the main thread Python
        gives no signals.

    Raises:
        UserError: a conflict in the configuration, missing or bad data, weights that do not fit, a run folder in use,
            a loss that is not finite, a full disk, nothing that could be learned or scored.
    """
    console, out, began = console or Console(), Path(out), time.monotonic()
    with contextlib.ExitStack() as stack:
        ranks = stack.enter_context(join_ranks(config.run.device))
        config.check(ranks.world_size)
        stack.enter_context(printable(console))
        stack.enter_context(workers_watched())
        stack.enter_context(naming_the_check(config.data))
        if ranks.is_main:
            stack.enter_context(hold_run_folder(out))
        if config.run.threads is not None:
            torch.set_num_threads(config.run.threads)
        torch.backends.cudnn.benchmark = True
        checkpoints = CheckpointFolder(out, keep_last=config.run.keep_last)
        checkpoint = checkpoint_to_resume(out, checkpoints.last(), resume=resume, ranks=ranks)
        asked, config = config, as_computed(config, ranks.device)
        recorded = {} if checkpoint is None else check_same_run(asked, config, checkpoint)
        earlier = recorded.get("config") or {}
        over = said_if_over(config, checkpoint, earlier) if checkpoint is not None and recorded.get("ended") else None
        if over is not None:
            if ranks.is_main:
                console.print(over, highlight=False, soft_wrap=True, markup=False, emoji=False)
            return Outcome(
                stopped_by=None,
                checkpoint=checkpoint,
                best_score=(recorded.get("evaluations") or {}).get("best_score"),
                seconds=recorded.get("seconds", 0.0),
                is_main=ranks.is_main,
                went_on=False,
            )
        if ranks.is_main:
            in_bf16(asked.run.bf16 or asked.run.eval_bf16, ranks.device)  # says where it is not
        start = start_run(config, ranks, checkpoints, checkpoint)
        run = _Run(start, checkpoints, console=console, command=command, began=began)
        stack.callback(run.training_step.release)
        if run.is_over:
            return run.left_as_it_is()
        if ranks.is_main:
            run.open_folder(earlier, plan)
        ranks.wait()
        return run()


_NO_END = 10**9
"""Epochs of a run that minutes alone end."""


class _Run:
    def __init__(
        self, start: Start, checkpoints: CheckpointFolder, *, console: Console, command: str, began: float
    ) -> None:
        self.start, self.checkpoints, self.command = start, checkpoints, command
        self.data, self.state, self.config = start.data, start.state, start.data.config
        self.ranks: Ranks = start.data.ranks
        self.console = console if self.ranks.is_main else Console(quiet=True)
        self.steps_per_epoch = self.data.steps_per_epoch
        every = self.config.run.eval_every_epochs * self.steps_per_epoch
        lengths = self.config.optimizer
        self.num_epochs = None if lengths.steps is not None else lengths.epochs
        self.pace = Pace(
            most=lengths.steps or self.steps_per_epoch * (lengths.epochs or _NO_END),
            minutes=self.config.run.minutes,
            began=began,
            spent=self.state.seconds,
            done=self.state.step,
            steps_between_evaluations=self.config.run.eval_every_steps or every,
            evaluations_too=self.config.run.minutes_of == "all",
        )
        self.stopping = Stopping()
        counted = replace(self.config, loss=start.loss)
        steps = {"num_steps": max(self.pace.num_steps, self.state.step + 1), "steps_per_epoch": self.steps_per_epoch}
        self.training_step = TrainingStep(counted, self.state, self.ranks, **steps)

    def open_folder(self, earlier: dict[str, Any], plan: Sequence[str]) -> None:
        """Check the disk, write the configuration, say what is about to run and what it changes of `earlier`."""
        size = sum(t.numel() * t.element_size() for t in self.state.network.state_dict().values())
        copies = 2 if self.state.average is None else 3  # weights, momentum, the average
        self.checkpoints.check_space(copies * size)
        for folder in (self.checkpoints.run, self.checkpoints.run / "samples"):
            sweep_folder(folder)  # what a killed run left half-written
        self.config.write(self.checkpoints.run / "config.json")
        if plan:
            write_whole(self.checkpoints.run / PLAN, "".join(f"{line}\n" for line in plan).encode(errors="replace"))
        self.checkpoints.settle(self.state.evaluations.best_step)
        for line in data_notes(self.config.data, self.start.data.train_set, self.start.data.val_set):
            if line not in plan:
                self._say(line)
        self._say(describe(self.start, self.pace.most, self.config.run.minutes))
        if self.config.loss.class_weights == "auto":
            pairs = zip(self.data.train_set.classes.names, self.start.loss.class_weights or ())
            self._say("class weights: " + ", ".join(f"{name} {weight:.2f}" for name, weight in pairs))
        before = earlier.get("optimizer") or {}
        for kind in ("epochs", "steps"):
            was, now = before.get(kind), getattr(self.config.optimizer, kind)
            if kind in before and was != now:
                self._say(
                    f"{was} {kind} became {now}: from step {self.state.step} on the rate is that of a run planned for "
                    f"{self.pace.most} steps, {self.training_step.rate(self.state.step):.2e} now"
                )

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def __call__(self) -> Outcome:
        """Train from the current step to the end, or until a signal."""
        settings, state = self.config.run, self.state
        log = None
        if self.ranks.is_main:
            log = RunLog(
                self.checkpoints.run,
                tensorboard=settings.tensorboard,
                resume_step=state.step,
                evaluated_step=state.evaluations.step,
            )
        bar = TrainingProgress(
            self.console,
            num_steps=self.pace.most,
            num_epochs=self.num_epochs,
            start_step=state.step,
            every_steps=settings.log_every_steps,
        )
        with contextlib.ExitStack() as stack:
            if log is not None:
                stack.callback(log.close)
            stack.enter_context(self.stopping.listening())
            stack.enter_context(bar)
            finished = self._run_steps(bar, log)
        if finished:
            if self.ranks.is_main and self.pace.limited:
                self.checkpoints.end(state.step, self.pace.elapsed)
            self._say_what_was_reached()
            self._check_learning()
            self._check_scored()
        else:
            self._say(f"stopped: step {state.step} is saved; go on with: ducseg train --resume {self.checkpoints.run}")
        stopped_by = None if finished else self.stopping.signal or signal.SIGTERM  # another rank may have got it
        return self._outcome(stopped_by)

    def _outcome(self, stopped_by: signal.Signals | None = None, *, went_on: bool = True) -> Outcome:
        return Outcome(
            stopped_by=stopped_by,
            checkpoint=self.checkpoints.last(),
            best_score=self.state.evaluations.best_score,
            seconds=self.pace.elapsed,
            went_on=went_on,
            is_main=self.ranks.is_main,
        )

    @property
    def is_over(self) -> bool:
        """Whether it came to its last step, scored, in an earlier session."""
        return self.state.step >= self.pace.most and not self._evaluation_is_due()

    def left_as_it_is(self) -> Outcome:
        """What comes of a run that is over: a line; links that a killed save left undone are set."""
        if self.ranks.is_main:
            self.checkpoints.settle(self.state.evaluations.best_step)
        self._check_learning()
        self._check_scored()
        self._say(said_over(self.config, self.checkpoints.path(self.state.step)))
        return self._outcome(went_on=False)

    def _run_steps(self, bar: TrainingProgress, log: RunLog | None) -> bool:
        """Every remaining step; False if a signal ended them early."""
        state, first, began = self.state, self.state.step, time.monotonic()
        if self._evaluation_is_due() and not self._evaluate(log):  # it was saved, and not scored any more
            return False
        self._stop_early()
        batches = iter(self.data.batches(first, self.pace.most - first))
        with contextlib.closing(batches):  # the workers end here, however many batches are left
            while state.step < self.pace.num_steps:
                step_began = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - step_began
                values = self.training_step(batch)
                seconds = time.monotonic() - step_began
                values["images_per_second"] = self.config.optimizer.batch_size / seconds
                values["waiting_share"] = waited / seconds
                if log is not None:
                    log.step(state.step, values, board=state.step % self.config.run.log_every_steps == 0)
                self._fit(seconds)
                left = self.pace.left
                if left is None:
                    left = (time.monotonic() - began) / (state.step - first) * (self.pace.num_steps - state.step)
                epoch = (state.step - 1) // self.steps_per_epoch + 1
                bar.update(state.step, epoch, values, seconds_left=left, num_steps=self.pace.num_steps)
                if self._asked_to_stop():
                    self._save()
                    return False
                if not self._at_boundaries(log):
                    return False
        return True

    def _fit(self, seconds: float) -> None:
        """Fit the number of steps to the time, where there is a limit, by rank 0's clock."""
        self.pace.note_step(seconds)
        if not self.pace.limited:
            return
        if self.pace.wants_estimate:
            bf16 = self.config.run.eval_bf16
            estimate = estimate_seconds(self.state.evaluated, self.data.val_set, self.ranks, bf16=bf16)
            self.pace.evaluation_seconds = estimate
            if self.pace.evaluation_is_too_long:
                self._say(
                    f"warning: an evaluation of {len(self.data.val_set)} pictures takes about {estimate / 60:.1f} of "
                    f"the {in_minutes(self.config.run.minutes)}; half of that is for training, so it will end later: "
                    "give it more minutes, or fewer pictures to validate on"
                )
        mine = self.pace.fitted(self.state.step) if self.ranks.is_main else 0
        self.pace.num_steps = int(self.ranks.sum(torch.tensor(mine)))
        self.training_step.num_steps = max(self.pace.num_steps, self.state.step + 1)

    def _stop_early(self) -> None:
        """End the run here where the last evaluations brought nothing better."""
        patience, without = self.config.run.patience, self.state.evaluations.without_gain
        if patience is not None and without >= patience:
            self.pace.num_steps = self.state.step
            self._say(f"stopped early: {without} evaluations without a better {self.config.run.best_by}")

    def _say_what_was_reached(self) -> None:
        if self.pace.limited:
            state, minutes = self.state, self.pace.counted / 60
            epochs, most = state.step / self.steps_per_epoch, self.num_epochs
            of = f"{epochs:.1f} epochs" if most is None else f"{epochs:.1f} of {most} epochs"
            self._say(f"reached step {state.step}, {of}, in {minutes:.1f} of {in_minutes(self.config.run.minutes)}")
            warmup = self.config.optimizer.warmup_steps
            if state.step <= warmup:
                minutes_for = self.pace.minutes_for(10 * warmup, state.step)
                needed = "more" if minutes_for is None else math.ceil(minutes_for)
                self._say(
                    f"warning: the time was over while the rate still rose, for {warmup} steps: on this machine give "
                    f"it {needed} minutes, or smaller crops and batches"
                )

    def _at_boundaries(self, log: RunLog | None) -> bool:
        """Save and score where that is due; False if a signal ended the evaluation."""
        step, every = self.state.step, self.config.run.save_every_steps
        if step % self.steps_per_epoch == 0:
            self._check_learning()
        ends_epoch = step % self.steps_per_epoch == 0 and self.config.run.eval_every_steps is None
        if ends_epoch or self._evaluation_is_due() or (every and step % every == 0):
            self._save()
        return not self._evaluation_is_due() or self._evaluate(log)

    def _evaluation_is_due(self) -> bool:
        step, settings = self.state.step, self.config.run
        every = settings.eval_every_steps or settings.eval_every_epochs * self.steps_per_epoch
        return (step == self.pace.num_steps or step % every == 0) and step not in (0, self.state.evaluations.step)

    def _asked_to_stop(self) -> bool:
        """Whether any rank got a signal: all must leave after the same step."""
        return bool(self.ranks.sum(torch.tensor(float(self.stopping.requested))))

    def _evaluate(self, log: RunLog | None) -> bool:
        """Score the saved step; False if a signal ended it."""
        state, settings, began = self.state, self.config.run, time.monotonic()
        bf16 = settings.eval_bf16
        keep = settings.overlays if log is not None else 0
        validated = validate(state.evaluated, self.data.val_set, self.ranks, self.stopping, bf16=bf16, keep=keep)
        if validated is None:
            return False
        found, labels = validated
        state.evaluations.add(state.step, deciding_score(found, settings.best_by))
        if log is not None:
            pictures = follow_pictures(self.data.val_set, labels, self.checkpoints.run, state.step)
            log.evaluation(state.step, found, pictures)
            self.checkpoints.score(state.evaluations, to_json(found))
            self._say(f"step {state.step} on {self.config.data.val_split}{', in bf16' if bf16 else ''}:")
            self.console.print(format_table(found))
            for name in unfound_classes(found):
                self._say(f"warning: {name} has 0 IoU: of its {found['classes'][name]['pixels']} pixels none was found")
        self.ranks.wait()
        self.pace.note_evaluation(time.monotonic() - began)
        self._stop_early()
        return True

    def _save(self) -> None:
        """Write a checkpoint on rank 0; the others wait for it."""
        if not self.config.run.sync_batch_norm:
            self.ranks.share_buffers(self.state.network)
            if self.state.average is not None:
                self.ranks.share_buffers(self.state.average.segmenter)
        if self.ranks.is_main:
            self.state.seconds = self.pace.elapsed
            extra = {"step": self.state.step, "config": self.config.to_json(), "command": self.command, **versions()}
            self.checkpoints.save(self.state, extra=extra)
        self.ranks.wait()

    def _check_learning(self) -> None:
        """Raise UserError where every batch of an epoch was skipped, from the first on."""
        if self.state.skipped_batches == self.state.step > 0:
            weighted = " of a class with a weight" if self.config.loss.class_weights is not None else ""
            raise explain(
                f"nothing to learn in {len(self.data.train_set)} training pictures",
                found=f"no pixel{weighted} in any of {self.state.step} batches: all are void ({IGNORE}) or left out",
                needed="masks with classes",
                fix="Look at the masks: `ducseg data check` tells what they hold.",
            )

    def _check_scored(self) -> None:
        """Raise UserError where no evaluation had a pixel to score."""
        if self.state.evaluations.best_score is None:
            best_by = self.config.run.best_by
            pixel = "labelled pixel" if best_by == "mean_iou" else f"pixel of {best_by}"
            raise explain(
                f"run {self.checkpoints.run} is trained and saved, but nothing could be scored",
                found=f"no {pixel} in any of {len(self.data.val_set)} validation pictures",
                needed="masks with classes in --data.val-split",
                fix="Look at the masks: `ducseg data check` tells what they hold. best is the last checkpoint.",
            )
