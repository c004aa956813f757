"""`Interview`: the systems of a run answer again, under changed conditions.

A question that comes out the same under several conditions, or was answered by the evaluate stage, is answered once.
Answers are kept and resumed like that stage's.
"""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tagpr.data.split import Splits
from tagpr.evaluation.breakdown import write_users
from tagpr.evaluation.evaluate import checkpoint_system
from tagpr.evaluation.heldout import token_count
from tagpr.evaluation.predict import is_answered, model_key, predict
from tagpr.evaluation.predictions import Prediction, check, judge, read_predictions
from tagpr.evaluation.questions import OTHER_HISTORY, Question, ask, with_other_history
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.profiles.settings import ProfileSettings
from tagpr.progress import Progress, silent
from tagpr.runs import Run
from tagpr.systems.prompted import Prompted
from tagpr.tasks.types import Example, Task


class Unfinished(Exception):
    """This process has answered its share; another one still works on its own."""


class Interview:
    """A run's systems, answering under changed conditions.

    New answers are kept in `analyses/answers`, a sweep's scores by user in `analyses/PART/users.csv`; answers of the
    evaluate stage are taken from there. shard: (i, n) answers every n-th chunk of questions; methods raise Unfinished
    until the last process is done.
    """

    def __init__(
        self, run: Run, checkpoints: Mapping[str, Path], progress: Progress = silent, shard: tuple[int, int] = (0, 1)
    ) -> None:
        """checkpoints: their folders by the system's name."""
        self.run, self.checkpoints, self.progress, self.shard = run, checkpoints, progress, shard
        self.settings, self.seed, self.context = run.recipe.evaluate, run.seed, run.context()
        self._systems: dict[str, Prompted[Any]] = {}

    @property
    def data(self) -> Mapping[str, Splits]:
        """The run's examples by task."""
        return self.run.data

    def heldout(self, name: str) -> Sequence[Example]:
        """The questions of a task that are answered."""
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
        asked = self._system(system)
        context = asked.context if profile is None else replace(asked.context, profile=profile)
        prompts = context.prompts(asked.reasons)
        return ask(self.data[name].task, examples, prompts, history)

    def go_on(self, system: str, question: Question, text: str) -> Question:
        """The question with the beginning of its completion given: the system goes on from there."""
        ids = self._system(system).context.tokenizer(text, add_special_tokens=False)["input_ids"]
        return replace(question, prompt_ids=(*question.prompt_ids, *ids))

    def answers(
        self, part: str, system: str, name: str, asked: Mapping[str, Sequence[Question]]
    ) -> dict[str, list[Prediction]]:
        """Answers of one system to questions of task `name`, by condition. Nothing is generated again:
        answers are kept in `out/answers` by example and prompt. Raises Unfinished (see `shard`).
        """
        asked_system, task = self._system(system), self.data[name].task
        key = model_key(self.checkpoints[system], self.settings)
        folder = self.run.folder.analyses / "answers" / system
        known = self._answered(system, name, key)
        for path in sorted(folder.glob(f"{name}-{key}-*.jsonl")):
            known |= {row.id: row for row in read_predictions(path)}
        new = {_kept_as(q): q for questions in asked.values() for q in questions if _kept_as(q) not in known}

        def report(done: int, total: int, _: str) -> None:
            self.progress(done, total, f"{part} {system} {name}")

        if new:
            renamed = [replace(q, example=replace(q.example, id=kept)) for kept, q in new.items()]
            which = hashlib.sha256("\n".join(new).encode()).hexdigest()[:12]
            rows = predict(
                asked_system.write,
                token_count(asked_system.context.tokenizer),
                task,
                renamed,
                self.context.vocabulary,
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
            **question.seen._asdict(),
            history=question.history,
            **check(task, question.example, kept.completion, question.seen, self.context.vocabulary),
            **judge(task, kept.completion, target, self.context.vocabulary),
        )

    def sweep(self, part: str, profiles: Mapping[str, ProfileSettings]) -> dict[str, Results]:
        """Results of every system under each of `profiles`, by the value's name."""
        if self.shard[1] > 1:  # all shares first: only then is it known whether the other processes' are there
            for system in self.checkpoints:
                for name in self.data:
                    with contextlib.suppress(Unfinished):
                        self._swept(part, system, name, profiles)
        rows = {
            (system, name): self._swept(part, system, name, profiles)
            for system in self.checkpoints
            for name in self.data
        }
        tasks = {name: splits.task for name, splits in self.data.items()}
        heldout = {name: self.heldout(name) for name in self.data}
        found, answered = {}, []
        for value in profiles:
            systems = [
                SystemAnswers(system, predictions={name: rows[system, name][value] for name in self.data})
                for system in self.checkpoints
            ]
            found[value] = score(tasks, systems, ("base",), self.settings, self.seed, heldout)
        for name in self.data:
            answered += [(name, value, {s: rows[s, name][value] for s in self.checkpoints}) for value in profiles]
        write_users(self.run.folder.analyses / part / "users.csv", answered)
        return found

    def _swept(
        self, part: str, system: str, name: str, profiles: Mapping[str, ProfileSettings]
    ) -> dict[str, list[Prediction]]:
        heldout = self.heldout(name)
        asked = {value: self.questions(system, name, heldout, profile) for value, profile in profiles.items()}
        return self.answers(part, system, name, asked)

    def _system(self, name: str) -> Prompted[Any]:
        if name not in self._systems:  # one model in memory at a time
            self._systems = {name: checkpoint_system(name, self.checkpoints[name], self.context)}
        return self._systems[name]

    def _answered(self, system: str, name: str, key: str) -> dict[str, Prediction]:
        """Answers of the evaluate stage, if model and settings were these."""
        found: dict[str, Prediction] = {}
        for stored in (system, OTHER_HISTORY) if system == "final" else (system,):
            path = self.run.folder.predictions / stored / f"{name}.jsonl"
            if not path.is_file():
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
