"""The evaluate stage: load each model, answer every held-out example, score, and write `metrics.json`.

{"tasks": {TASK: block}}, where a block is `tagpr.evaluation.scoring.score_task`'s.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data.split import Splits
from tagpr.evaluation.answerer import Answerer
from tagpr.evaluation.breakdown import history_block, write_users
from tagpr.evaluation.predict import Progress, model_key, predict
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import ask, with_other_history
from tagpr.evaluation.scoring import OTHER_HISTORY, score_task
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.files import write_json
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.systems.context import Context
from tagpr.systems.registry import SANITY, load_system
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)


def evaluate_systems(
    models: Mapping[str, Path],
    data: Mapping[str, Splits],
    vocabulary: Vocabulary,
    profile: ProfileSettings,
    prompt: PromptSettings,
    settings: EvaluationSettings,
    out: Path,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The evaluate stage: writes `out/predictions/SYSTEM/TASK.jsonl`, `users.csv` and `metrics.json`; returns the last.

    models: checkpoint folder by system name. data: the examples by task name.
    A rerun keeps the answers that are there and does not load a model that has answered everything.
    """
    heldout = {name: splits.heldout[: settings.limit] for name, splits in data.items()}
    swap = list(data) if settings.other_history is True else [n for n in data if n in (settings.other_history or ())]
    jobs = [(system, folder, list(data)) for system, folder in models.items()]
    if swap and "final" in models:
        jobs.append((OTHER_HISTORY, models["final"], swap))
    total = sum(len(heldout[name]) for _, _, names in jobs for name in names)
    done = 0
    predictions: dict[str, dict[str, list[Prediction]]] = {name: {} for name in data}
    for system, folder, names in jobs:
        answerer, swapped = Answerer(folder, settings, seed), system == OTHER_HISTORY
        for name in names:
            task = data[name].task
            examples, donors = with_other_history(heldout[name], seed) if swapped else (heldout[name], {})
            questions = ask(
                task,
                examples,
                PromptBuilder(answerer.tokenizer, profile, prompt, vocabulary.names, seed),
                lambda example, donors=donors: f"other:{donors[example.id]}" if donors else "own",
            )
            target = out / "predictions" / system / f"{name}.jsonl"

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
            predictions[name][system] = rows
    metrics = {
        "tasks": {
            name: score_task(
                splits.task,
                predictions[name],
                sanity_answers(splits.task, splits.train, heldout[name]),
                settings,
                seed,
            )
            for name, splits in data.items()
        }
    }
    for name, block in metrics["tasks"].items():
        block["by_history_length"] = history_block(predictions[name], heldout[name])
    write_users(out / "users.csv", ((name, "own", systems) for name, systems in predictions.items()))
    write_json(out / "metrics.json", metrics)
    return metrics


def sanity_answers(task: Task, train: Sequence[Example], heldout: Sequence[Example]) -> dict[str, list[str]]:
    """Answers to `heldout` of the systems that need no model, by row name, as far as they cover the task."""
    context = Context(Path(), {task.name: task}, Path(), load_vocabulary())
    rows = {}
    for name in SANITY:
        system = load_system(name)(context)
        if system.covers(task):
            system.fit(train)
            rows[name] = [answer.text for answer in system.predict(heldout)]
    return rows
