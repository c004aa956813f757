"""An RL stage on TRL: the job and the files of `train_gspo`, on sharded weights or with completions from vLLM."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig

from tagpr import processes
from tagpr.engine.models import load_tokenizer, quiet
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.errors import RunError
from tagpr.files import write_jsonl
from tagpr.training.checkpoints import load_best
from tagpr.training.job import RLJob
from tagpr.training.launching import refuse_fewer_processes
from tagpr.training.metrics import RLMetrics
from tagpr.training.rollout import capped
from tagpr.training.scale.grpo_config import grpo_config
from tagpr.training.scale.loading import load_for_training
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.scale.sharded import reference_model, save_gathered, save_trained, size_of
from tagpr.training.scale.step_trainer import StepTrainer
from tagpr.training.scale.watching import StepWatch
from tagpr.training.schedule import total_steps
from tagpr.training.watch import amounts_of


def train_trl(job: RLJob, engine: EngineSettings) -> RLMetrics:
    """Run the job in TRL's trainer, with as many processes as the launcher started; files and metrics as `train_gspo`.

    A killed stage continues from its last checkpoint, which is between two rollouts, and ends in the same bits on CPUs.
    Raises RunError as `train_gspo` does, RecipeError for settings or launches that TRL or accelerate cannot carry out.
    """
    if not job.rows:
        raise RunError("no prompt to train on: the data stage kept no training example")
    processes.join()
    rank, world = processes.rank(), processes.count()
    refuse_fewer_processes(world)
    job = replace(job, rows=capped(job.rows, job.settings.max_prompts, job.context.seed))
    settings, total, out = job.settings, total_steps(job.settings, len(job.rows)), job.context.out
    # before the model: under ZeRO-3 it tells transformers to load only this process's part
    args = grpo_config(job, engine, total, world)
    trainer = _trainer(job, total, args)
    watch = StepWatch(job, total, rank, world)
    watch.trainer = trainer
    trainer.callback_handler.callbacks.insert(0, watch)  # before MarkComplete
    checkpoint = last_checkpoint(out / "checkpoints")
    watch.resume(Path(checkpoint) if checkpoint else None)
    if not watch.watch.on_plateau() and watch.done < total:
        with quiet():
            trainer.train(resume_from_checkpoint=checkpoint)
    watch.trackers.close()
    kept = _finish(job, trainer, watch)
    plain = trainer.accelerator.unwrap_model(trainer.model)
    trained = sum(size_of(p) for p in plain.parameters() if p.requires_grad)
    amounts = amounts_of(settings, job.rows, job.context.seed, watch.watch.log, trained)
    return RLMetrics(watch.done, total, kept, *amounts, **watch.watch.summary())


def _trainer(job: RLJob, total: int, args: GRPOConfig) -> StepTrainer:
    settings = job.settings
    model = load_for_training(job.policy, settings, job.context.seed)
    trainer = StepTrainer(job, total, model, load_tokenizer(job.policy), args, [MarkComplete()])
    trainer.remove_callback(PrinterCallback)
    path = job.reference or job.policy
    trainer.reference = cache(lambda: reference_model(path, trainer.accelerator))
    return trainer


def _finish(job: RLJob, trainer: StepTrainer, watch: StepWatch) -> int:
    """Write the model, the log and the samples; returns the step of the model's weights."""
    settings, out = job.settings, job.context.out
    kept = watch.watch.best() if settings.keeps_best else watch.done
    if not settings.keeps_best:
        save_trained(trainer, job.policy, settings, trainer.tokenizer, out / "model")
    elif processes.is_first():
        weights = load_best(out / "checkpoints", kept) if kept else {}
        save_gathered(job.policy, weights, settings.lora_rank, trainer.tokenizer, out / "model")
    if processes.is_first():
        watch.samples.finish(watch.done)
        write_jsonl(out / "log.jsonl", watch.watch.log)
    processes.wait()
    return kept
