"""What `train_gspo` does between two steps, as a callback of TRL's trainer: figures, evaluations, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tagpr.errors import RunError
from tagpr.files import read_json, read_jsonl, write_json, write_jsonl
from tagpr.training.checkpoints import about, drop_bests, save_best
from tagpr.training.heldout import greedy_scores, mean_scores
from tagpr.training.job import RLJob
from tagpr.training.samples import SampleLog
from tagpr.training.scale.sharded import gathered_weights
from tagpr.training.scale.step_trainer import GreedyAnswers, StepTrainer
from tagpr.training.schedule import evaluates_after, learning_rate
from tagpr.training.trackers import Trackers
from tagpr.training.watch import Watch, step_figures

LOG, ABOUT = "steps.jsonl", "about.json"
"""Kept in a checkpoint beside the Trainer's own files: the log so far, and what the checkpoint was made with."""

_DIFFERENCE = "sampling/sampling_logp_difference/mean"
"""TRL's name of how far vLLM's log-probabilities of a rollout are from the trainer's, per token; in the log of the
rollout's first update."""


class StepWatch(TrainerCallback):
    """Works when the last update of a rollout has been logged; the Trainer then saves, if asked to."""

    def __init__(self, job: RLJob, total: int, rank: int, processes: int) -> None:
        self.job, self.total, self.rank, self.processes = job, total, rank, processes
        self.folder = job.context.out / "checkpoints"
        self.watch = Watch(job.settings, job.context.out)
        self.samples = SampleLog(job.context.out, job.settings.samples_per_step, rank, processes)
        names = () if rank else job.settings.report_to
        self.trackers = Trackers(names, job.context.out.name, job.trackers or job.context.out / "trackers")
        self.trainer: StepTrainer | None = None
        """Whose callback this is; set before training."""
        self._difference: float | None = None

    @property
    def done(self) -> int:
        """Rollout steps done."""
        return len(self.watch.log)

    # -- the start

    def resume(self, checkpoint: Path | None) -> None:
        """Take the log from a checkpoint, if there is one. Raises RunError if its settings were others."""
        s = self.job.settings
        if checkpoint is None:
            return
        kept = read_json(checkpoint / ABOUT)
        if kept != self._about():
            raise RunError(
                f"{checkpoint}: made with other settings or another seed; delete it to start this stage again"
            )
        self.watch.log = read_jsonl(checkpoint / LOG)
        if s.heldout_every:
            self.watch.start = mean_scores(read_json(self._table(0)))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Evaluate the start: weights are divided by now, as TRL expects them when it sends them to vLLM."""
        if not self.done and self.job.settings.heldout_every:
            self.watch.start = self._evaluate(0)

    def _about(self) -> dict[str, object]:
        return about(self.job.settings, self.job.context.seed, self.total) | {"processes": self.processes}

    # -- one step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        """Finish the rollout step, if the update just logged was its last."""
        trainer, s = self.trainer, self.job.settings
        if trainer is None or not logs or "grad_norm" not in logs or not trainer.updates:
            return
        self._difference = logs.get(_DIFFERENCE, self._difference)
        trainer.updates[-1] = replace(trainer.updates[-1], norm=float(logs["grad_norm"]))
        if state.global_step % s.minibatches:
            return
        step = state.global_step // s.minibatches
        assert trainer.rollout is not None
        figures = step_figures(step, trainer.rollout, trainer.updates, self.processes)
        figures["learning_rate"] = learning_rate(s, step - 1, self.total)
        if trainer.kl is not None:
            figures["kl"] = trainer.kl
        if self._difference is not None:
            figures["sampling_difference"] = self._difference
        evaluates = evaluates_after(s, step, self.total)
        if evaluates:
            figures |= self._evaluate(step)
        self.samples.write(step, trainer.rollout, trainer.advantages)
        self.watch.note(figures, trainer.rollout, self.rank)
        if evaluates and s.keeps_best and self.watch.best() == step:
            weights = gathered_weights(trainer)
            if not self.rank:
                save_best(self.folder, step, weights)
        self.trackers.log(figures)
        self.job.context.progress(step, self.total, f"reward {figures['reward']:.3f}, length {figures['length']:.0f}")
        over = step == self.total or self.watch.on_plateau()
        control.should_training_stop = over
        control.should_save = not over and step % s.save_steps == 0

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Add what the Trainer does not know of to its checkpoint; `MarkComplete` comes after this."""
        if self.rank:
            return
        folder = self.folder / f"checkpoint-{state.global_step}"
        write_jsonl(folder / LOG, self.watch.log)
        write_json(folder / ABOUT, self._about())
        if self.job.settings.keeps_best:
            drop_bests(self.folder, self.watch.best())

    def _evaluate(self, step: int) -> dict[str, float]:
        assert self.trainer is not None
        job, answers = self.job, GreedyAnswers(self.trainer)
        table = greedy_scores(answers, list(job.heldout), job.reward, job.settings, self.rank, self.processes)
        if not self.rank:
            write_json(self._table(step), table)
        return mean_scores(table)

    def _table(self, step: int) -> Path:
        return self.job.context.out / "heldout" / f"step-{step:05d}.json"
