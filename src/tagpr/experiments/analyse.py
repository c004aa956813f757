"""Ask the systems of a finished run again, under changed conditions; for `runs/NAME/analyses/` and the report.

Asks Base and the final model again: with another user's history, with none, with exchanged labels; and, as sweeps, with
other profile lengths and retrievers (the paper's figures 4, 7, 8). A question that comes out the same under several
conditions, or was answered by the evaluate stage, is answered once. Answers are kept and resumed like that stage's.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.chains.vocabulary import Vocabulary
from tagpr.data.split import Splits
from tagpr.evaluation.analyses import TaskAnalyses, exchange_labels, has_labels, profile_use
from tagpr.evaluation.answerer import Answerer
from tagpr.evaluation.breakdown import by_history_length, by_seen_user, who_loses, write_users
from tagpr.evaluation.evidence import evidence
from tagpr.evaluation.predict import Progress, is_answered, model_key, predict
from tagpr.evaluation.predictions import Prediction, judge, read_predictions
from tagpr.evaluation.questions import OTHER_HISTORY, Question, ask, with_other_history, without_history
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)

LENGTHS = (2, 4, 8, 16, 32)
"""Profile lengths of figure 4."""


class Unfinished(Exception):
    """This process has answered its share; another one still works on its own."""


class Deepener:
    """Models, data and settings of one run, to ask its systems again under changed conditions.

    out: `answers/` in it keeps new answers, `PART/users.csv` a sweep's scores by person.
    answered: the evaluate stage's `predictions` folder, None where there is none.
    shard: (i, n) answers every n-th chunk of questions; methods raise Unfinished until the last process is done.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        data: Mapping[str, Splits],
        vocabulary: Vocabulary,
        profile: ProfileSettings,
        prompt: PromptSettings,
        settings: EvaluationSettings,
        out: Path,
        seed: int = 0,
        progress: Progress | None = None,
        answered: Path | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.models, self.data, self.vocabulary = models, data, vocabulary
        self.profile, self.prompt, self.settings = profile, prompt, settings
        self.out, self.seed, self.progress = out, seed, progress
        self.answered, self.shard = answered, shard
        self._answerers: dict[str, Answerer] = {}

    def heldout(self, name: str) -> list[Example]:
        """The questions of a task that are asked."""
        return self.data[name].heldout[: self.settings.limit]

    def questions(
        self,
        system: str,
        name: str,
        examples: Sequence[Example],
        profile: ProfileSettings | None = None,
        history: Callable[[Example], str] = lambda example: "own",
    ) -> list[Question]:
        """The prompts that put `examples` to a system."""
        prompts = PromptBuilder(
            self._answerer(system).tokenizer, profile or self.profile, self.prompt, self.vocabulary.names, self.seed
        )
        return ask(self.data[name].task, examples, prompts, history)

    def answers(
        self, part: str, system: str, name: str, asked: Mapping[str, Sequence[Question]]
    ) -> dict[str, list[Prediction]]:
        """Answers of one system to questions of task `name`, by condition. What was answered before is not asked again:
        answers are kept in `out/answers` by example and prompt. Raises Unfinished (see `shard`)."""
        answerer, task = self._answerer(system), self.data[name].task
        key = model_key(self.models[system], self.settings)
        folder = self.out / "answers" / system
        known = self._answered(system, name, key)
        for path in sorted(folder.glob(f"{name}-{key}-*.jsonl")):
            known |= {row.id: row for row in read_predictions(path)}
        new = {_kept_as(q): q for questions in asked.values() for q in questions if _kept_as(q) not in known}

        def report(done: int, total: int, _: str) -> None:
            if self.progress is not None:
                self.progress(done, total, f"{part} {system} {name}")

        if new:
            renamed = [replace(q, example=replace(q.example, id=kept)) for kept, q in new.items()]
            which = hashlib.sha256("\n".join(new).encode()).hexdigest()[:12]
            rows = predict(
                answerer.generate,
                answerer.tokenizer,
                task,
                renamed,
                self.vocabulary,
                folder / f"{name}-{key}-{which}.jsonl",
                self.settings.chunk,
                key,
                self.shard,
                report,
            )
            if not rows:
                raise Unfinished
            known |= {row.id: row for row in rows}
        return {
            condition: [self._again(task, question, known[_kept_as(question)]) for question in questions]
            for condition, questions in asked.items()
        }

    def _again(self, task: Task, question: Question, kept: Prediction) -> Prediction:
        """A kept answer as the answer to `question`, scored as of now."""
        target = question.example.target or ""
        return replace(
            kept,
            id=question.example.id,
            target=target,
            entries=question.entries,
            history=question.history,
            **judge(task, kept.completion, target, self.vocabulary),
        )

    def sweep(self, part: str, profiles: Mapping[str, ProfileSettings]) -> dict[str, Results]:
        """Results of every system under each of `profiles`, by the value's name."""
        if self.shard[1] > 1:  # all shares first: only then is it known whether the other processes' are there
            for system in self.models:
                for name in self.data:
                    with contextlib.suppress(Unfinished):
                        self._swept(part, system, name, profiles)
        rows = {
            (system, name): self._swept(part, system, name, profiles) for system in self.models for name in self.data
        }
        tasks = {name: splits.task for name, splits in self.data.items()}
        heldout = {name: self.heldout(name) for name in self.data}
        found, answered = {}, []
        for value in profiles:
            systems = [
                SystemAnswers(system, predictions={name: rows[system, name][value] for name in self.data})
                for system in self.models
            ]
            found[value] = score(tasks, systems, ("base",), self.settings, self.seed, heldout)
        for name in self.data:
            answered += [(name, value, {s: rows[s, name][value] for s in self.models}) for value in profiles]
        write_users(self.out / part / "users.csv", answered)
        return found

    def _swept(
        self, part: str, system: str, name: str, profiles: Mapping[str, ProfileSettings]
    ) -> dict[str, list[Prediction]]:
        heldout = self.heldout(name)
        asked = {value: self.questions(system, name, heldout, profile) for value, profile in profiles.items()}
        return self.answers(part, system, name, asked)

    def _answerer(self, system: str) -> Answerer:
        if system not in self._answerers:  # one model in memory at a time
            self._answerers = {system: Answerer(self.models[system], self.settings, self.seed)}
        return self._answerers[system]

    def _answered(self, system: str, name: str, key: str) -> dict[str, Prediction]:
        """Answers of the evaluate stage, where model and settings were these."""
        found: dict[str, Prediction] = {}
        for stored in (system, OTHER_HISTORY) if system == "final" else (system,):
            path = (self.answered or self.out) / stored / f"{name}.jsonl"
            if self.answered is None or not path.is_file():
                continue
            rows = read_predictions(path)
            examples = self.data[name].heldout[: len(rows)]
            if stored == OTHER_HISTORY:
                examples, _ = with_other_history(examples, self.seed)
            questions = self.questions(system, name, examples)
            if is_answered(path, self.data[name].task, questions, self.settings.chunk, key):
                found |= {_kept_as(question): row for question, row in zip(questions, rows, strict=True)}
        return found


def _kept_as(question: Question) -> str:
    """Example and prompt in one word: under which an answer is kept."""
    digest = hashlib.sha256(repr(question.prompt_ids).encode()).hexdigest()
    return f"{question.example.id}#{digest[:12]}"


def sweep_profile_length(deepener: Deepener, lengths: Sequence[int] = LENGTHS) -> dict[str, Results]:
    """Figure 4, top: quality by how many history items are shown."""
    return deepener.sweep("length", {str(k): deepener.profile.model_copy(update={"k": k}) for k in lengths})


def sweep_retriever(
    deepener: Deepener, retrievers: Sequence[str] = tuple(retriever.value for retriever in Retriever)
) -> dict[str, Results]:
    """Figure 4, bottom: quality by how the history items are chosen."""
    return deepener.sweep(
        "retriever",
        {name: deepener.profile.model_copy(update={"retriever": Retriever(name)}) for name in retrievers},
    )


def practitioner(deepener: Deepener) -> dict[str, TaskAnalyses]:
    """The questions beyond the paper, by task: profile use, counterfactual, evidence, cold start, losers."""
    systems = [name for name in ("base", "final") if name in deepener.models]
    per = {
        (system, name): deepener.answers("practitioner", system, name, _conditions(deepener, system, name))
        for system in systems
        for name in deepener.data
    }
    found = {}
    for name, splits in deepener.data.items():
        heldout = deepener.heldout(name)
        own = {system: per[system, name]["own"] for system in systems}
        block = TaskAnalyses(
            profile_use={
                system: {
                    condition: profile_use(splits.task, own[system], rows)
                    for condition, rows in per[system, name].items()
                    if condition != "own"
                }
                for system in systems
            },
            evidence={system: evidence(own[system], heldout) for system in systems},
        )
        if len(systems) == 2:
            final, base = own["final"], own["base"]
            block = replace(
                block,
                by_history_length=by_history_length(final, base, heldout),
                by_seen_user=by_seen_user(final, base, {example.user_id for example in splits.train}),
                who_loses=who_loses(final, base),
            )
        found[name] = block
    return found


def _conditions(deepener: Deepener, system: str, name: str) -> dict[str, list[Question]]:
    """The held-out questions with the own history, another person's, none, and the own with its labels exchanged."""
    task, heldout = deepener.data[name].task, deepener.heldout(name)
    other, donors = with_other_history(heldout, deepener.seed)
    asked = {
        "own": deepener.questions(system, name, heldout),
        "other": deepener.questions(system, name, other, history=lambda example: f"other:{donors[example.id]}"),
        "none": deepener.questions(system, name, without_history(heldout), history=lambda example: "none"),
    }
    if has_labels(task):
        exchanged = exchange_labels(task, heldout, deepener.seed)
        asked["exchanged"] = deepener.questions(system, name, exchanged, history=lambda example: "exchanged")
    return asked
