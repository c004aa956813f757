"""Ask the systems of a finished run again, under changed conditions; for `runs/NAME/analyses/` and the report.

Asks Base and the final model again: with another user's history, with none, with exchanged labels; and, as sweeps, with
other profile lengths and retrievers (the paper's figures 4, 7, 8). Predictions are kept and resumed like the stage's.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagpr.chains.vocabulary import Vocabulary
from tagpr.evaluation import analyses
from tagpr.evaluation.answerer import Answerer
from tagpr.evaluation.predict import Progress, model_key, predict
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import ask, with_other_history, without_history
from tagpr.evaluation.scoring import score_task
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.files import write_json
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.prompts.builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks.types import Example, Kind, Task

logger = logging.getLogger(__name__)

LENGTHS = (2, 4, 8, 16, 32)
"""Profile lengths of figure 4."""
Data = Mapping[str, tuple[Task, Sequence[Example], Sequence[Example]]]


class Deepener:
    """Models, data and settings of one run, to ask its systems again under changed conditions."""

    def __init__(
        self,
        models: Mapping[str, Path],
        data: Data,
        vocabulary: Vocabulary,
        profile: ProfileSettings,
        prompt: PromptSettings,
        settings: EvaluationSettings,
        out: Path,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.models, self.data, self.vocabulary = models, data, vocabulary
        self.profile, self.prompt, self.settings = profile, prompt, settings
        self.out, self.seed, self.progress = out, seed, progress
        self._answerers: dict[str, Answerer] = {}

    def heldout(self, name: str) -> list[Example]:
        """The questions of a task that are asked."""
        return list(self.data[name][2])[: self.settings.limit]

    def answers(
        self,
        system: str,
        name: str,
        condition: str,
        examples: Sequence[Example],
        profile: ProfileSettings | None = None,
    ) -> list[Prediction]:
        """Answers of one system to `examples` of task `name`; `condition` names the file they are kept in."""
        folder = self.models[system]
        if system not in self._answerers:  # one model in memory at a time
            self._answerers = {system: Answerer(folder, self.settings, self.seed)}
        answerer, task = self._answerers[system], self.data[name][0]
        prompts = PromptBuilder(
            answerer.tokenizer, profile or self.profile, self.prompt, self.vocabulary.names, self.seed
        )
        questions = ask(task, examples, prompts)
        note = f"{system} {name} {condition}"

        def report(done: int, total: int, _: str) -> None:
            if self.progress is not None:
                self.progress(done, total, note)

        return predict(
            answerer.generate,
            answerer.tokenizer,
            task,
            questions,
            self.vocabulary,
            self.out / condition / system / f"{name}.jsonl",
            self.settings.chunk,
            f"{model_key(folder, self.settings)} {condition}",
            progress=report,
        )

    def sweep(self, condition: str, profiles: Mapping[str, ProfileSettings]) -> dict[str, Any]:
        """Scores of every system under each of `profiles` (by the value's name), as task -> value -> block."""
        found: dict[str, dict[str, dict[str, list[Prediction]]]] = {name: {} for name in self.data}
        for system in self.models:
            for value, profile in profiles.items():
                for name in self.data:
                    rows = self.answers(system, name, f"{condition}-{value}", self.heldout(name), profile)
                    found[name].setdefault(value, {})[system] = rows
        return {
            name: {
                value: score_task(self.data[name][0], by_system, None, self.settings, self.seed)
                for value, by_system in by_value.items()
            }
            for name, by_value in found.items()
        }


def sweep_profile_length(deepener: Deepener, lengths: Sequence[int] = LENGTHS) -> dict[str, Any]:
    """Figure 4, top: quality by how many history items are shown."""
    return deepener.sweep("length", {str(k): deepener.profile.model_copy(update={"k": k}) for k in lengths})


def sweep_retriever(
    deepener: Deepener, retrievers: Sequence[str] = tuple(retriever.value for retriever in Retriever)
) -> dict[str, Any]:
    """Figure 4, bottom: quality by how the history items are chosen."""
    return deepener.sweep(
        "retriever",
        {name: deepener.profile.model_copy(update={"retriever": Retriever(name)}) for name in retrievers},
    )


def practitioner(deepener: Deepener) -> dict[str, Any]:
    """The questions beyond the paper, by task: profile use, counterfactual, evidence, cold start, losers."""
    found: dict[str, Any] = {}
    systems = [name for name in ("base", "final") if name in deepener.models]
    per: dict[tuple[str, str, str], list[Prediction]] = {}
    conditions = {
        "own": lambda task, rows: rows,
        "other": lambda task, rows: with_other_history(rows, deepener.seed)[0],
        "none": lambda task, rows: without_history(rows),
        "exchanged": lambda task, rows: analyses.change_labels(task, rows, deepener.seed),
    }
    for system in systems:
        for name, (task, _, _) in deepener.data.items():
            for condition, change in conditions.items():
                if condition == "exchanged" and (task.kind is Kind.TEXT or task.output_field is None):
                    continue
                examples = change(task, deepener.heldout(name))
                per[system, name, condition] = deepener.answers(system, name, condition, examples)
    for name, (task, train, _) in deepener.data.items():
        heldout = deepener.heldout(name)
        own = {system: per[system, name, "own"] for system in systems}
        block: dict[str, Any] = {
            "profile_use": {
                system: {
                    condition: analyses.profile_use(task, own[system], per[system, name, condition])
                    for condition in ("other", "none", "exchanged")
                    if (system, name, condition) in per
                }
                for system in systems
            },
            "evidence": {system: analyses.evidence(own[system], heldout) for system in systems},
        }
        if len(systems) == 2:
            final, base = own["final"], own["base"]
            block["by_history_length"] = analyses.by_history_length(final, base, heldout)
            block["by_seen_user"] = analyses.by_seen_user(final, base, {example.user_id for example in train})
            block["who_loses"] = analyses.who_loses(final, base)
        found[name] = block
    return found


def write_analyses(path: Path, **parts: Any) -> None:
    """Add or replace parts (`practitioner`, `profile_length`, `retriever`, `rewards`) of `analyses.json`."""
    from tagpr.files import read_json

    found = read_json(path) if path.is_file() else {}
    write_json(path, {**found, **parts})
