"""Stage 0: `build_chains` runs sample -> rollouts -> accuracy -> judge -> tagging -> format (-> evidence) -> keep.

Writes `chains.parquet` (one chain per row), `funnel.json`, `vocabulary.yaml`, a dataset card and `steps/*.parquet`.
Every step is resumable (`tagpr.chains.steps`) and every call to a language model is cached (`tagpr.clients.calls`), so
a kill loses at most the calls in flight. This file only orders the steps; each is a file of its own.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from tagpr.chains.card import write_card
from tagpr.chains.dataset import CHAINS, chain_of, write_chains
from tagpr.chains.evidence import Shown
from tagpr.chains.filters import accuracy_filter, evidence_filter, format_filter, keep_best
from tagpr.chains.generators import Generators
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.judge import judge_filter
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import Funnel, Row, StepStore
from tagpr.chains.tagging import FREE_TAGS, explore, restrict
from tagpr.chains.teachers import ShownPrompt, heuristic_rollouts, teacher_rollouts, written_rollouts
from tagpr.chains.vocabulary import Tag, Vocabulary, load_vocabulary, renaming
from tagpr.clients.settings import GeneratorSettings
from tagpr.data.corrections import is_correction
from tagpr.errors import RecipeError, RunError
from tagpr.progress import StageContext
from tagpr.tasks.types import Example, Task

Prompt = Callable[[Task, Example], ShownPrompt]
"""The prompt that the policy will see, with the history entries it shows."""

EXAMPLES = pa.schema([("task", pa.string()), ("example_id", pa.string()), ("user_id", pa.string())])
ROLLOUTS = pa.schema(
    [
        *EXAMPLES,
        ("sample", pa.int32()),
        ("chain", pa.string()),  # the raw chain; "" if the teacher tags its chains itself
        ("answer", pa.string()),
        ("completion", pa.string()),  # tagged; "" until tagging
    ]
)
SCORED = ROLLOUTS.append(pa.field("score", pa.float64()))
JUDGED = SCORED.append(pa.field("judge", pa.int32()))
VOCABULARY = pa.schema(
    [
        ("task", pa.string()),
        ("name", pa.string()),
        ("definition", pa.string()),
        ("count", pa.int64()),
        ("members", pa.list_(pa.string())),
    ]
)


def build_chains(
    settings: ChainSettings,
    tasks: Mapping[str, Task],
    train: Mapping[str, Sequence[Example]],
    prompt: Prompt,
    context: StageContext,
) -> Funnel:
    """Build the dataset of tagged chains in folder `context.out` and return its funnel.

    `train`: training examples by task name. Raises RunError if not one chain survives, RecipeError if a tagger is
    missing.
    """
    if isinstance(settings.teacher, GeneratorSettings) and settings.tagger is None:
        raise RecipeError("chains.tagger: missing; raw chains of a teacher model need a `tagger` block with a `model`")
    build = _Build(settings, tasks, train, prompt, context)
    judged = build.judged(build.correct(build.rollouts(build.drawn())))
    vocabulary = build.vocabulary(judged)
    kept = build.kept(build.formed(build.tagged(judged, vocabulary), vocabulary))
    funnel = Funnel(tuple(build.store.counts))
    funnel.write(context.out / "funnel.json")
    vocabulary.write(context.out / "vocabulary.yaml")
    write_chains(context.out, map(chain_of, kept))
    write_card(context.out, funnel, vocabulary, settings)
    if not kept:
        counts = ", ".join(f"{step.step} {step.total}" for step in funnel.steps)
        notes = Counter({why: count for step in funnel.steps for why, count in step.notes.items()})
        most = "".join(f"; most often: {why} ({count})" for why, count in notes.most_common(1))
        raise RunError(
            f"chains: not one chain survived ({counts}{most}); see {context.out / 'funnel.json'} for the reasons; "
            "chains.examples_per_task and chains.samples say how many are drawn"
        )
    return funnel


@dataclass(frozen=True)
class _Build:
    """The steps of one build: each method runs one, from its file if that is there."""

    settings: ChainSettings
    tasks: Mapping[str, Task]
    train: Mapping[str, Sequence[Example]]
    prompt: Prompt
    context: StageContext

    @cached_property
    def store(self) -> StepStore:
        """The files of the steps, under a fingerprint of all that comes in."""
        inputs = hashlib.sha256(repr((self.context.seed, sorted(self.tasks.items()))).encode())
        for name in sorted(self.train):
            for example in self.train[name]:
                inputs.update(repr((name, example)).encode())
        return StepStore(self.context.out / "steps", inputs.hexdigest())

    @cached_property
    def examples(self) -> dict[tuple[str, str], Example]:
        """Training examples by task name and id."""
        return {(name, example.id): example for name in sorted(self.train) for example in self.train[name]}

    @cached_property
    def generators(self) -> Generators:
        """The language models that are asked."""
        return Generators(self.settings)

    @cached_property
    def given(self) -> Vocabulary:
        """The vocabulary that the settings name: the paper's, or a file."""
        named = self.settings.vocabulary
        return load_vocabulary(named if isinstance(named, Path) else None)

    def drawn(self) -> list[Row]:
        """The examples that chains are made for."""
        per_task = self.settings.examples_per_task
        return self.store.run("sample", EXAMPLES, per_task, lambda: (self._draw(per_task), {}), unit="examples")

    def _draw(self, per_task: int | None) -> list[Row]:
        rows: list[Row] = []
        for name in sorted(self.train):
            usable = [example for example in self.train[name] if example.target and not is_correction(example)]
            if per_task is not None and len(usable) > per_task:
                picks = random.Random(f"{self.context.seed}/{name}/sample").sample(range(len(usable)), per_task)
                usable = [usable[i] for i in sorted(picks)]
            usable += filter(is_correction, self.train[name])
            rows += [{"task": name, "example_id": example.id, "user_id": example.user_id} for example in usable]
        return rows

    def rollouts(self, drawn: list[Row]) -> list[Row]:
        """The teacher's chains, raw or tagged, with their answers."""
        settings, samples = self.settings, self.settings.samples
        if settings.teacher == "heuristic":
            tags = renaming(load_vocabulary(), self.given, str(settings.vocabulary))
            decides, make = tags, lambda: (self._heuristic(drawn, tags), dict[str, int]())
        elif settings.teacher == "written":
            assert settings.written is not None
            path, given = settings.written, self.given
            decides, make = list(given.names), lambda: written_rollouts(path, samples, drawn, given)
        else:
            teacher = self.generators.get(settings.teacher)
            asked = (self.tasks, drawn, self.examples, self.prompt, self.context.progress)
            return self.store.run(
                "rollouts",
                ROLLOUTS,
                [settings.teacher.model_dump(mode="json"), samples],
                lambda: teacher_rollouts(teacher, samples, *asked),
            )
        key: object = samples if settings.vocabulary == "paper" else [samples, decides]
        return self.store.run("rollouts", ROLLOUTS, [key, settings.encoder] if settings.encoder else key, make)

    def _heuristic(self, drawn: list[Row], tags: Mapping[str, str]) -> list[Row]:
        """Chains of the built-in teacher, one teacher per task."""
        from tagpr.profiles.dense import encoder_of

        spec = self.settings.encoder
        encoder = encoder_of(spec, "chains.encoder") if spec is not None else None
        if encoder is not None:  # a vector's last digits depend on its batch: chains shall not on what was read before
            encoder.forget()
        teachers = {
            name: HeuristicTeacher(self.tasks[name], self.train[name], self.context.seed, encoder)
            for name in {row["task"]: None for row in drawn}
        }
        return heuristic_rollouts(
            self.settings.samples, teachers, drawn, self.examples, self.prompt, tags, self.context.progress
        )

    def correct(self, rollouts: list[Row]) -> list[Row]:
        """Those whose answer is right."""
        targets, least = (
            {key: example.target or "" for key, example in self.examples.items()},
            self.settings.correct_from,
        )
        return self.store.run(
            "accuracy_filter", SCORED, least, lambda: accuracy_filter(rollouts, self.tasks, targets, least)
        )

    def judged(self, correct: list[Row]) -> list[Row]:
        """Those that the judge likes; all of them without a judge."""
        block, above = self.settings.judge, self.settings.judge_above
        if block is None:
            return self.store.run("judge_filter", JUDGED, None, lambda: (correct, {}), skipped="no judge is configured")
        judge, shown = self.generators.get(block), (self.tasks, self.examples, self.prompt, self.context.progress)
        return self.store.run(
            "judge_filter",
            JUDGED,
            [block.model_dump(mode="json"), above],
            lambda: judge_filter(judge, above, correct, *shown),
        )

    def vocabulary(self, judged: list[Row]) -> Vocabulary:
        """The tags: those of the settings, or discovered on chains that a model tags freely (it has to be asked)."""
        settings, discovery = self.settings, self.settings.discovery
        if not isinstance(settings.teacher, GeneratorSettings) or settings.vocabulary != "discover":
            return self.given
        assert settings.tagger is not None
        tagger, progress = self.generators.get(settings.tagger), self.context.progress
        free = self.store.run(
            "exploratory_tagging",
            FREE_TAGS,
            [settings.tagger.model_dump(mode="json"), discovery.examples],
            lambda: explore(tagger, discovery.examples, judged, progress),
            unit="tagged groups",
        )

        def cluster() -> tuple[list[Row], dict[str, int]]:
            from tagpr.chains.discovery import discover

            found = discover([row["tag"] for row in free], discovery, self.context.seed, tagger)
            return [asdict(tag) | {"task": "all tasks", "members": list(tag.members)} for tag in found], {}

        rows = self.store.run("vocabulary", VOCABULARY, discovery.model_dump(mode="json"), cluster, unit="tags")
        return Vocabulary(tuple(Tag(r["name"], r["definition"], r["count"], tuple(r["members"])) for r in rows))

    def tagged(self, judged: list[Row], vocabulary: Vocabulary) -> list[Row]:
        """Chains with tags; a raw chain gets them from the tagger."""
        settings = self.settings
        if not isinstance(settings.teacher, GeneratorSettings):
            why = "the teacher's chains are tagged"
            return self.store.run("tagging", JUDGED, None, lambda: (judged, {}), skipped=why)
        assert settings.tagger is not None
        tagger, how = self.generators.get(settings.tagger), settings.tagging
        return self.store.run(
            "tagging",
            JUDGED,
            [settings.tagger.model_dump(mode="json"), how, [(tag.name, tag.definition) for tag in vocabulary]],
            lambda: restrict(tagger, how, judged, vocabulary, self.context.progress),
        )

    def formed(self, tagged: list[Row], vocabulary: Vocabulary) -> list[Row]:
        """Those of good form and, if the settings say so, with enough evidence that checks."""
        least, claims = self.settings.min_segments, self.settings.min_evidence
        formed = self.store.run(
            "format_filter",
            CHAINS,
            [least, list(vocabulary.names)],
            lambda: format_filter(tagged, vocabulary, least),
        )
        if not claims:
            return formed
        return self.store.run(
            "evidence_filter", CHAINS, [claims], lambda: evidence_filter(formed, vocabulary, claims, self._shown)
        )

    def _shown(self, name: str, example_id: str) -> Shown:
        task, example = self.tasks[name], self.examples[name, example_id]
        prompt = self.prompt(task, example)
        return Shown.of(task, example, prompt.entries, prompt.cuts)

    def kept(self, formed: list[Row]) -> list[Row]:
        """The best of each example, and of each task as many as the settings say."""
        most = self.settings.keep_per_example, self.settings.keep_per_task
        return self.store.run("keep", CHAINS, list(most), lambda: keep_best(formed, *most, self.context.seed))
