"""The evaluate stage: load each model, answer every held-out example, score, and write `results.json`."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data.split import Splits
from tagpr.evaluation.answerer import Answerer
from tagpr.evaluation.breakdown import write_users
from tagpr.evaluation.predict import Progress, model_key, predict
from tagpr.evaluation.predictions import Prediction, make_prediction
from tagpr.evaluation.questions import OTHER_HISTORY, ask, with_other_history
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.profiles.settings import ProfileSettings
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.systems.context import Context
from tagpr.systems.registry import SANITY, load_system

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
) -> Results:
    """The evaluate stage: writes `out/predictions/SYSTEM/TASK.jsonl`, `users.csv` and `results.json`; returns the last.

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
    systems = [
        SystemAnswers(system, predictions={name: by[system] for name, by in predictions.items() if system in by})
        for system, _, _ in jobs
    ]
    systems += trivial_baselines({name: replace(splits, heldout=heldout[name]) for name, splits in data.items()})
    tasks = {name: splits.task for name, splits in data.items()}
    results = score(tasks, systems, stage_references(systems), settings, seed, heldout)
    write_users(out / "users.csv", ((name, "own", by_system) for name, by_system in predictions.items()))
    results.write(out / "results.json")
    return results


def stage_references(systems: Sequence[SystemAnswers]) -> list[str]:
    """What the stage's systems are compared with: Base first, the earlier stages, the trivial baselines."""
    return [system.name for system in systems if system.name != "final"]


def trivial_baselines(data: Mapping[str, Splits]) -> list[SystemAnswers]:
    """The systems that need no model, each on the tasks it covers."""
    vocabulary = load_vocabulary()
    context = Context(Path(), {name: splits.task for name, splits in data.items()}, Path(), vocabulary)
    found = []
    for name in SANITY:
        rows = {}
        for task, splits in data.items():
            system = load_system(name)(context)
            if system.covers(splits.task):
                system.fit(splits.train)
                rows[task] = [
                    make_prediction(splits.task, example, answer, vocabulary, lambda part: len(part.split()))
                    for example, answer in zip(splits.heldout, system.predict(splits.heldout), strict=True)
                ]
        if rows:
            found.append(SystemAnswers(name, reasons=False, predictions=rows))
    return found
