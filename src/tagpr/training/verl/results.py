"""What a stage trained by verl leaves in the run: the model, the log, samples and evaluations, as `train_gspo` writes
them.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.types import Completion
from tagpr.errors import ModelError, RunError
from tagpr.files import read_json, write_json, write_jsonl
from tagpr.training.advantages import rollout_advantages
from tagpr.training.heldout import mean_scores
from tagpr.training.job import RLJob
from tagpr.training.metrics import RLMetrics
from tagpr.training.policy import save_policy
from tagpr.training.rollout import Rollout, rows_of_step
from tagpr.training.samples import SampleLog
from tagpr.training.schedule import total_steps
from tagpr.training.verl.merge import checkpoint_of, merged_weights
from tagpr.training.verl.scored import Scored, StepLog, read_steps
from tagpr.training.watch import Watch, amounts_of, step_figures

logger = logging.getLogger(__name__)

OF_VERL = {
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/pg_clipfrac": "clip_fraction",
    "actor/lr": "learning_rate",
}
"""What verl's metrics are called in our log."""
ALSO_OF_VERL = {"actor/entropy": "entropy", "training/rollout_probs_diff_mean": "rollout_difference"}
"""Those that settings of verl can take away: entropy per token, vLLM's probabilities against the trainer's."""


def take_back(job: RLJob, checkpoint: Path, log: Path) -> RLMetrics:
    """Write `out/model` and, of the steps up to the checkpoint's, `log.jsonl`, `samples.parquet` and `heldout/`.

    checkpoint: as `checkpoint_of` takes it, or a Hugging Face folder (then only the model is known). log: the folder
    with verl's log of every launch. If held-out rows were evaluated, the model is the best of the checkpoints that are
    there. Raises ModelError for a checkpoint that cannot be read, RunError for a log with completions missing.
    """
    out, total = job.context.out, total_steps(job.settings, len(job.rows))
    if (checkpoint / "config.json").is_file():
        _save(job, checkpoint, None)
        return RLMetrics(of=total, trained_parameters=_parameters(out / "model"))
    actor, done = checkpoint_of(checkpoint)
    steps = read_steps(log)
    watch = _write_log(job, {step: found for step, found in steps.items() if step <= done}, done)
    kept = watch.best() if job.settings.keeps_best else done
    if kept:
        best = actor.parent.with_name(f"global_step_{kept}") / "actor"
        _save(job, job.policy, best if kept != done else actor)
    else:
        _save(job, job.policy, None)
    trained = _parameters(out / "model")
    amounts = amounts_of(job.settings, job.rows, job.context.seed, watch.log, trained)
    return RLMetrics(done, total, kept, *amounts, **watch.summary())


def _write_log(job: RLJob, steps: dict[int, StepLog], done: int) -> Watch:
    """Write log, samples and tables of the steps 1 to `done`, if any was logged; returns the log."""
    s, out = job.settings, job.context.out
    watch, samples = Watch(s, out), SampleLog(out, s.samples_per_step)
    if not steps:
        return watch
    for step in range(done + 1):
        found = steps.get(step, StepLog({}, (), ()))
        table = _table(found.heldout, len(job.heldout), step) if found.heldout else {}
        if table:
            write_json(out / "heldout" / f"step-{step:05d}.json", table)
        if not step:
            watch.start = mean_scores(table)
            continue
        rollout = _rollout(job, found.sampled, step)
        figures = step_figures(step, rollout, [])
        for name in ("loss", "grad_norm", "clip_fraction", "entropy"):  # only verl knows them
            del figures[name]
        figures |= _of_trainer(found.metrics, step)
        watch.log.append(figures | mean_scores(table))
        samples.write(step, rollout, rollout_advantages(rollout, range(len(rollout.rows)), s, 1))
    samples.finish(done)
    write_jsonl(out / "log.jsonl", watch.log)
    return watch


def _of_trainer(metrics: Mapping[str, float], step: int) -> dict[str, float]:
    """What only verl's trainer knows of a step, by our names; nothing if it was killed before it had logged the step.

    Raises RunError if a number is missing, which was not finite then.
    """
    if not OF_VERL.keys() & metrics.keys():
        logger.warning(
            "step %d: verl was killed after its checkpoint and before its log: loss and gradient norm are not known",
            step,
        )
        return {}
    if missing := sorted(OF_VERL.keys() - metrics.keys()):
        raise RunError(
            f"step {step}: verl's log has no finite {missing[0]}; train from an earlier checkpoint, at a lower rate"
        )
    return {ours: metrics[name] for name, ours in (OF_VERL | ALSO_OF_VERL).items() if name in metrics}


def _rollout(job: RLJob, sampled: Sequence[Scored], step: int) -> Rollout:
    """The step's groups in the order of its rows. Raises RunError if a completion is missing."""
    s = job.settings
    groups: dict[str, list[Scored]] = {}
    for one in sampled:
        groups.setdefault(one.prompt, []).append(one)
    if len(groups) != s.prompts_per_step or any(len(group) != s.group_size for group in groups.values()):
        raise RunError(
            f"step {step}: verl's log has {len(sampled)} of {s.prompts_per_step * s.group_size} completions; look for "
            "errors in its output and train again from an earlier checkpoint"
        )
    order = rows_of_step(step - 1, len(job.rows), s.prompts_per_step, job.context.seed)
    ranked = sorted(groups.values(), key=lambda group: order.index(group[0].row))
    ranked = [sorted(group, key=lambda one: one.session) for group in ranked]
    flat = [one for group in ranked for one in group]
    return Rollout(
        [job.rows[group[0].row] for group in ranked],
        [[Completion([0] * one.length, None, one.finished, text=one.text) for one in group] for group in ranked],
        [[one.text for one in group] for group in ranked],
        [[one.parts["reward"] for one in group] for group in ranked],
        {name: [one.parts[name] for one in flat] for name in flat[0].parts if name != "reward"},
    )


def _table(answers: Sequence[Scored], rows: int, step: int) -> dict[str, list[float]]:
    """Reward, length and parts of the greedy answers in the rows' order, as `greedy_scores` gives them."""
    by_row = {one.row: one for one in answers}
    if sorted(by_row) != list(range(rows)):
        raise RunError(f"step {step}: verl's log has {len(by_row)} answers on {rows} held-out rows; evaluate again")
    ranked = [by_row[row] for row in range(rows)]
    parts = {name: [one.parts[name] for one in ranked] for name in ranked[0].parts}
    return {"reward": parts.pop("reward"), "length": [float(one.length) for one in ranked], **parts}


def _save(job: RLJob, base: Path, actor: Path | None) -> None:
    """Write `base` with the weights of a checkpoint (None: with its own) and the policy's tokenizer."""
    model = load_causal_lm(base, dtype="float32", device="cpu")
    wanted = read_json(job.policy / "config.json")["vocab_size"]
    if model.config.vocab_size != wanted:
        raise ModelError(f"{base}: a vocabulary of {model.config.vocab_size}, the stage's policy has {wanted}")
    if actor is not None:
        try:
            model.load_state_dict(merged_weights(actor))
        except RuntimeError as error:
            raise ModelError(f"{actor}: is no checkpoint of {base} ({' '.join(str(error).split())[:160]})") from None
    save_policy(model, load_tokenizer(job.policy), job.context.out / "model")


def _parameters(folder: Path) -> int:
    """Numbers in the weights of a checkpoint."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count
