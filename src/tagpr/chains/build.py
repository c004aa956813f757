"""Stage 0: `build_chains` runs sample -> rollouts -> accuracy -> judge -> tagging -> format (-> evidence) -> keep.

Writes `chains.parquet` (one chain per row), `funnel.json`, `vocabulary.yaml`, a dataset card and `steps/*.parquet`.
Every step is resumable (`tagpr.chains.steps`) and every call to a language model is cached (`tagpr.clients.calls`), so
a kill loses at most the calls in flight. This file only orders the steps; each is a file of its own.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from tagpr.chains.dataset import CHAINS, chain_of, write_chains
from tagpr.chains.evidence import Shown
from tagpr.chains.filters import accuracy_filter, evidence_filter, format_filter, keep_best
from tagpr.chains.generators import Generators
from tagpr.chains.settings import ChainSettings, VocabularySettings
from tagpr.chains.steps import Funnel, Row, StepStore
from tagpr.chains.tagging import FREE_TAGS, explore, restrict
from tagpr.chains.teachers import ShownPrompt, heuristic_rollouts, teacher_rollouts, written_rollouts
from tagpr.chains.vocabulary import Tag, Vocabulary, load_vocabulary, renaming
from tagpr.clients.settings import GeneratorSettings
from tagpr.clients.types import CachedModel
from tagpr.data.corrections import is_correction
from tagpr.errors import RecipeError, RunError
from tagpr.tasks.types import Example, Task

Progress = Callable[[int, int, str], None]


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
    prompt: Callable[[Task, Example], ShownPrompt],
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> Funnel:
    """Build the dataset of tagged chains in folder `out` and return its funnel.

    `train`: training examples by task name. `prompt(task, example)`: the prompt the policy will see, with the history
    entries it shows. Raises RunError if not one chain survives, RecipeError if a tagger is missing.
    """
    if isinstance(settings.teacher, GeneratorSettings) and settings.tagger is None:
        raise RecipeError("chains.tagger: missing; raw chains of a teacher model need a `tagger` block with a `model`")
    report = progress or (lambda done, total, note: None)
    inputs = hashlib.sha256(repr((seed, sorted(tasks.items()))).encode())
    for name in sorted(train):
        for example in train[name]:
            inputs.update(repr((name, example)).encode())
    store = StepStore(out / "steps", inputs.hexdigest())
    examples = {(name, example.id): example for name in sorted(train) for example in train[name]}
    targets = {key: example.target or "" for key, example in examples.items()}

    generators = Generators(settings)
    drawn = store.run(
        "sample",
        EXAMPLES,
        settings.examples_per_task,
        lambda: (_draw(train, settings.examples_per_task, seed), {}),
        unit="examples",
    )
    if settings.teacher == "heuristic":
        given = _given(settings)
        tags = renaming(load_vocabulary(), given, str(settings.vocabulary))
        rollouts = store.run(
            "rollouts",
            ROLLOUTS,
            settings.samples if settings.vocabulary == "paper" else [settings.samples, tags],
            lambda: (
                heuristic_rollouts(settings.samples, tasks, train, drawn, examples, prompt, tags, seed, report),
                {},
            ),
        )
    elif settings.teacher == "written":
        assert settings.written is not None
        path, given = settings.written, _given(settings)
        rollouts = store.run(
            "rollouts",
            ROLLOUTS,
            settings.samples if settings.vocabulary == "paper" else [settings.samples, list(given.names)],
            lambda: written_rollouts(path, settings.samples, drawn, given),
        )
    else:
        teacher = generators.get(settings.teacher)
        rollouts = store.run(
            "rollouts",
            ROLLOUTS,
            [settings.teacher.model_dump(mode="json"), settings.samples],
            lambda: teacher_rollouts(teacher, settings.samples, tasks, drawn, examples, prompt, report),
        )
    correct = store.run(
        "accuracy_filter",
        SCORED,
        settings.correct_from,
        lambda: accuracy_filter(rollouts, tasks, targets, settings.correct_from),
    )
    if settings.judge is None:
        judged = store.run("judge_filter", JUDGED, None, lambda: (correct, {}), skipped="no judge is configured")
    else:
        from tagpr.chains.judge import judge_filter

        judge = generators.get(settings.judge)

        judged = store.run(
            "judge_filter",
            JUDGED,
            [settings.judge.model_dump(mode="json"), settings.judge_above],
            lambda: judge_filter(judge, settings.judge_above, correct, tasks, examples, prompt, report),
        )
    vocabulary, tagged = _tag(settings, generators, store, judged, seed, report)
    formed = store.run(
        "format_filter",
        CHAINS,
        [settings.min_segments, list(vocabulary.names)],
        lambda: format_filter(tagged, vocabulary, settings.min_segments),
    )
    if settings.min_evidence:
        formed = store.run(
            "evidence_filter",
            CHAINS,
            [settings.min_evidence],
            lambda rows=formed: evidence_filter(
                rows,
                vocabulary,
                settings.min_evidence,
                lambda name, example_id: _shown(tasks[name], examples[name, example_id], prompt),
            ),
        )
    kept = store.run(
        "keep",
        CHAINS,
        [settings.keep_per_example, settings.keep_per_task],
        lambda: keep_best(formed, settings.keep_per_example, settings.keep_per_task, seed),
    )
    funnel = Funnel(tuple(store.counts))
    funnel.write(out / "funnel.json")
    vocabulary.write(out / "vocabulary.yaml")
    write_chains(out, map(chain_of, kept))
    from tagpr.chains.card import write_card

    write_card(out, funnel, vocabulary, settings)
    if not kept:
        counts = ", ".join(f"{step.step} {step.total}" for step in funnel.steps)
        notes = Counter({why: count for step in funnel.steps for why, count in step.notes.items()})
        most = "".join(f"; most often: {why} ({count})" for why, count in notes.most_common(1))
        raise RunError(f"chains: not one chain survived ({counts}{most}); see {out / 'funnel.json'} for the reasons")
    return funnel


def _shown(task: Task, example: Example, prompt: Callable[[Task, Example], ShownPrompt]) -> Shown:
    return Shown.of(task, example, tuple(prompt(task, example).entries))


def _draw(train: Mapping[str, Sequence[Example]], per_task: int | None, seed: int) -> list[Row]:
    rows = []
    for name in sorted(train):
        usable = [example for example in train[name] if example.target and not is_correction(example)]
        if per_task is not None and len(usable) > per_task:
            picks = random.Random(f"{seed}/{name}/sample").sample(range(len(usable)), per_task)
            usable = [usable[i] for i in sorted(picks)]
        usable += filter(is_correction, train[name])
        rows += [{"task": name, "example_id": example.id, "user_id": example.user_id} for example in usable]
    return rows


def _tag(
    settings: ChainSettings, generators: Generators, store: StepStore, judged: list[Row], seed: int, report: Progress
) -> tuple[Vocabulary, list[Row]]:
    """The vocabulary and the tagged rows."""
    if not isinstance(settings.teacher, GeneratorSettings):
        skipped = "the teacher's chains are tagged"
        tagged = store.run("tagging", JUDGED, None, lambda: (judged, {}), skipped=skipped)
        return _given(settings), tagged
    assert settings.tagger is not None
    tagger, block = generators.get(settings.tagger), settings.tagger.model_dump(mode="json")
    if settings.vocabulary != "discover":
        vocabulary = _given(settings)
    else:
        free = store.run(
            "exploratory_tagging",
            FREE_TAGS,
            [block, settings.discovery.examples],
            lambda: explore(tagger, settings.discovery.examples, judged, report),
            unit="tagged groups",
        )
        clusters = store.run(
            "vocabulary",
            VOCABULARY,
            settings.discovery.model_dump(mode="json"),
            lambda: (_clusters(settings.discovery, [row["tag"] for row in free], seed, tagger), {}),
            unit="tags",
        )
        vocabulary = Vocabulary(
            tuple(Tag(r["name"], r["definition"], r["count"], tuple(r["members"])) for r in clusters)
        )
    tagged = store.run(
        "tagging",
        JUDGED,
        [block, settings.tagging, [(tag.name, tag.definition) for tag in vocabulary]],
        lambda: restrict(tagger, settings.tagging, judged, vocabulary, report),
    )
    return vocabulary, tagged


def _given(settings: ChainSettings) -> Vocabulary:
    """The vocabulary that the settings name: the paper's, or a file."""
    return load_vocabulary(settings.vocabulary if isinstance(settings.vocabulary, Path) else None)


def _clusters(settings: VocabularySettings, names: Sequence[str], seed: int, tagger: CachedModel) -> list[Row]:
    from tagpr.chains.discovery import discover

    found = discover(names, settings, seed, tagger)
    return [
        {"task": "all tasks", "name": t.name, "definition": t.definition, "count": t.count, "members": list(t.members)}
        for t in found
    ]
