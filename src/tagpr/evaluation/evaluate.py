"""`metrics.json`: every system's scores on every task, with bootstrap intervals of every difference.

    {"tasks": {TASK: {"n", "users", "metric", "systems": {SYSTEM: {METRIC: value, "format_rate", "chain_tokens"}},
                      "difference_to_base": {SYSTEM: {METRIC: {"mean", "low", "high"}}},
                      "differences": {"A - B": {METRIC: {"mean", "low", "high"}}},
                      "sanity": {ROW: {METRIC: value}}}}}

Also `evaluate_systems`, the stage: load each model, answer, score. Significance is over users (`bootstrap`).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tagpr.chains.vocabulary import Vocabulary
from tagpr.errors import RunError
from tagpr.evaluation.bootstrap import bootstrap_sums, percentile_interval
from tagpr.evaluation.predict import Progress, is_complete, model_key, predict
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import ask, with_other_history
from tagpr.evaluation.sanity import sanity_answers
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.statistics import Statistic, mean, task_statistics, values
from tagpr.files import write_json
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)

OTHER_HISTORY = "final-other-history"
PAIRS = (("final", "sft"), ("final", "guided"), ("guided", "sft"), ("final", OTHER_HISTORY))
"""Differences reported besides those to base, where both systems are there."""


def score_task(
    task: Task,
    predictions: Mapping[str, Sequence[Prediction]],
    sanity: Mapping[str, Sequence[str]] | None = None,
    settings: EvaluationSettings | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """One task's block of metrics.json. All systems must answer the same examples, in the same order.

    Raises RunError where they do not.
    """
    settings = settings or EvaluationSettings()
    systems = list(predictions)
    first = predictions[systems[0]]
    for name in systems:
        if [row.id for row in predictions[name]] != [row.id for row in first]:
            raise RunError(f"predictions of '{name}' and '{systems[0]}' on {task.name} are about different examples")
    targets = [row.target for row in first]
    statistics = {name: _system_statistics(task, rows, targets) for name, rows in predictions.items()}
    sanity_statistics = {name: task_statistics(task, row, targets) for name, row in (sanity or {}).items()}
    users = [row.user_id for row in first]
    everyone = {**statistics, **sanity_statistics}
    samples = _resampled(everyone, users, settings.resamples, seed)
    points = {name: values(columns) for name, columns in everyone.items()}

    def difference(a: str, b: str) -> dict[str, dict[str, float]]:
        return {
            metric: percentile_interval(
                points[a][metric] - points[b][metric], samples[a][metric] - samples[b][metric], settings.level
            ).as_dict()
            for metric in points[a]
            if metric in points[b]
        }

    pairs = [(a, b) for a, b in PAIRS if a in statistics and b in statistics]
    pairs += [("final", row) for row in sanity_statistics if "final" in statistics]
    return {
        "n": len(first),
        "users": len(set(users)),
        "metric": task.metrics[0],
        "kind": str(task.kind),
        "systems": {name: points[name] for name in statistics},
        "intervals": {
            name: {m: percentile_interval(points[name][m], s, settings.level).as_dict() for m, s in samples[name].items()}
            for name in everyone
        },
        "difference_to_base": {
            name: difference(name, "base") for name in statistics if name != "base" and "base" in statistics
        },
        "differences": {f"{a} - {b}": difference(a, b) for a, b in pairs},
        "sanity": {name: points[name] for name in sanity_statistics},
    }


def _system_statistics(task: Task, rows: Sequence[Prediction], targets: Sequence[str]) -> dict[str, Statistic]:
    return {
        **task_statistics(task, [row.answer for row in rows], targets),
        "format_rate": mean([float(row.format_ok) for row in rows]),
        "chain_tokens": mean([row.chain_tokens for row in rows]),
    }


def _resampled(
    statistics: Mapping[str, Mapping[str, Statistic]], users: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Every metric of every system on every resample: {system: {metric: (resamples,)}}, all on the same draws."""
    blocks = [statistic.columns for metrics in statistics.values() for statistic in metrics.values()]
    sums = bootstrap_sums(np.hstack([np.ones((len(users), 1)), *blocks]), users, resamples, seed)
    count, position = sums[:, 0], 1
    found: dict[str, dict[str, Any]] = {}
    for name, metrics in statistics.items():
        found[name] = {}
        for metric, statistic in metrics.items():
            width = statistic.columns.shape[1]
            found[name][metric] = statistic.value(sums[:, position : position + width], count)
            position += width
    return found


def evaluate_systems(
    models: Mapping[str, Path],
    data: Mapping[str, tuple[Task, Sequence[Example], Sequence[Example]]],
    vocabulary: Vocabulary,
    profile: ProfileSettings,
    prompt: PromptSettings,
    settings: EvaluationSettings,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The evaluate stage. Writes `out/predictions/SYSTEM/TASK.jsonl` and `out/metrics.json`; returns the latter.

    models: checkpoint folder by system name. data: (task, training examples, held-out examples) by task name.
    A rerun keeps the answers that are there and does not load a model that has answered everything.
    """
    heldout = {name: list(held)[: settings.limit] for name, (_, _, held) in data.items()}
    jobs = [(system, folder, False) for system, folder in models.items()]
    if settings.other_history and "final" in models:
        jobs.append((OTHER_HISTORY, models["final"], True))
    total = sum(len(rows) for rows in heldout.values()) * len(jobs)
    done = 0
    predictions: dict[str, dict[str, list[Prediction]]] = {name: {} for name in data}
    for system, folder, swapped in jobs:
        answerer = _Answerer(folder, settings, seed)
        for name, (task, _, _) in data.items():
            examples, donors = with_other_history(heldout[name], seed) if swapped else (heldout[name], {})
            questions = ask(
                task,
                examples,
                profile,
                prompt,
                answerer.tokenizer,
                vocabulary,
                seed,
                lambda example, donors=donors: f"other:{donors[example.id]}" if donors else "own",
            )
            target = out / "predictions" / system / f"{name}.jsonl"
            if not is_complete(target, questions):
                answerer.load()

            def report(part: int, _: int, __: str, before: int = done, note: str = f"{system} {name}") -> None:
                if progress is not None:
                    progress(before + part, total, note)

            rows = predict(
                answerer.generate,
                answerer.tokenizer,
                task,
                questions,
                vocabulary,
                target,
                settings.chunk,
                model_key(folder, settings),
                progress=report,
            )
            done += len(rows)
            report(0, total, "", before=done)
            predictions[name][system] = rows
    metrics = {
        "tasks": {
            name: score_task(
                task, predictions[name], sanity_answers(task, train, heldout[name]), settings, seed
            )
            for name, (task, train, _) in data.items()
        }
    }
    write_json(out / "metrics.json", metrics)
    return metrics


class _Answerer:
    """A checkpoint: its tokenizer at once, its weights when the first question needs them."""

    def __init__(self, folder: Path, settings: EvaluationSettings, seed: int) -> None:
        from tagpr.llm.models import load_tokenizer

        self.folder, self.settings, self.seed = folder, settings, seed
        self.tokenizer = load_tokenizer(folder)
        self.model: Any = None

    def load(self) -> None:
        if self.model is None:
            from tagpr.llm.models import load_causal_lm

            self.model = load_causal_lm(self.folder)
            self.model.eval()

    def generate(self, prompts: list[list[int]]) -> list[Any]:
        from tagpr.llm.generation import generate

        self.load()
        completions = generate(
            self.model,
            self.tokenizer,
            prompts,
            num_samples=1,
            max_new_tokens=self.settings.max_new_tokens,
            temperature=self.settings.temperature,
            top_p=1.0,
            seed=self.seed,
        )
        return [samples[0] for samples in completions]
