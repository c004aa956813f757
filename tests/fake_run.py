"""A small, well-shaped run folder about invented people, for tests of evaluation and report; nothing was measured."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.split import Splits
from tagpr.evaluation.analyses import Analyses, ProfileUse, TaskAnalyses
from tagpr.evaluation.breakdown import Loser, Subset
from tagpr.evaluation.evaluate import stage_references, trivial_baselines
from tagpr.evaluation.evidence import Evidence
from tagpr.evaluation.predictions import Prediction, judge, write_predictions
from tagpr.evaluation.results import HistoryBin, Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.files import write_json, write_jsonl
from tagpr.statistics import Interval
from tagpr.tasks import Example, Interaction, Task, load_task

HOSTILE = '</script><img src=x onerror="document.title=1"> <!-- & \u2028 {{ 7*7 }}'
RATES = {"base": 0.22, "sft": 0.46, "guided": 0.52, "final": 0.58, "final-other-history": 0.2}
_WORDS = "image network daemon parser font python game terminal cluster audio matrix browser backup mail".split()  # noqa: SIM905


@dataclass(frozen=True)
class _Answered:
    text: str
    tokens: int


def fake_examples(task: Task, users: int, per_user: int, rng: random.Random, hostile: bool = True) -> list[Example]:
    """`per_user` questions of each of `users` invented people, four to eight history items each."""
    examples = []
    for user in range(users):
        favourite = rng.choice(task.labels) if task.labels else ""
        for question in range(per_user):
            profile = tuple(_item(task, f"{user}-{question}-{i}", favourite, rng) for i in range(rng.randint(4, 8)))
            asked = _item(task, f"{user}-{question}-x", favourite, rng)
            text = asked.fields[task.input_fields[0]]
            if hostile and user == 0:
                text = f"{text} {HOSTILE}"
            if user == 1:
                text = f"{text} 输入法框架 日本語入力"
            examples.append(
                Example(
                    id=f"{task.name}-{user}-{question}",
                    user_id=f"u{user:04d}",
                    task=task.name,
                    input=text,
                    target=asked.fields[task.output_field],
                    profile=profile,
                    fields={task.input_fields[0]: text},
                )
            )
    return examples


def _item(task: Task, name: str, favourite: str, rng: random.Random) -> Interaction:
    words = rng.sample(_WORDS, 3)
    text = f"{words[0]} {words[1]} tool for the {words[2]} system"
    if task.labels:
        output = favourite if rng.random() < 0.6 else rng.choice(task.labels)
    else:
        text = f"This package provides a {text}. It can read and write many formats and needs no configuration."
        output = f"{words[0]} {words[1]} tool"
    return Interaction(id=name, fields={task.input_fields[0]: text, task.output_field: output})


def fake_completion(task: Task, example: Example, system: str, right: bool, rng: random.Random) -> str:
    """What `system` might have written: free text for base, tagged steps for the trained ones."""
    target = example.target or ""
    if right:
        answer = target
    else:
        answer = rng.choice([x for x in task.labels if x != target]) if task.labels else " ".join(rng.sample(_WORDS, 3))
    if system == "base":
        thought = " ".join(rng.choices(_WORDS, k=rng.randint(40, 90)))
        return f"<think>\nOkay, let me think about {thought}.\n</think>\n{answer}" if rng.random() < 0.6 else answer
    nearest = example.profile[-1]
    shown = nearest.fields[task.input_fields[0]][:40]
    steps = [
        ("analyze_input", f"The new package is about {example.input[:50]}."),
        ("examine_examples", f'This person filed "{shown}" under {nearest.fields[task.output_field]}.'),
        ("identify_patterns", f"Most of the {len(example.profile)} past items look like this one."),
        ("compare_entities", f'"{rng.choice(_WORDS)} {rng.choice(_WORDS)}" is further away.'),
        ("make_decision", f"So {answer} fits best."),
    ]
    if rng.random() < 0.4:
        steps.pop(3)
    body = "\n".join(f"<{tag}> {text} </{tag}>" for tag, text in steps)
    if rng.random() < 0.03:
        return f"<think>\n{body}\nand then and then and then"
    return f"<think>\n{body}\n</think>\n{answer}"


def build_fake_run(folder: Path, users: int = 40, per_user: int = 1, seed: int = 0, hostile: bool = True) -> Path:
    """Write a run folder `folder` with two tasks, `users * per_user` held-out examples each. Returns `folder`."""
    from tagpr.data import write_examples

    rng = random.Random(seed)
    vocabulary = load_vocabulary(None)
    tasks = [load_task("package-section"), load_task("package-synopsis")]
    write_json(folder / "data" / "tasks.json", [task.model_dump(mode="json") for task in tasks])
    write_json(folder / "data" / "report.json", {task.name: {"train": 200, "heldout": users} for task in tasks})
    systems = {system: SystemAnswers(system) for system in RATES}
    data = {}
    settings = EvaluationSettings(resamples=500)
    for task in tasks:
        train = fake_examples(task, 30, 1, rng, hostile=False)
        heldout = fake_examples(task, users, per_user, rng, hostile=hostile)
        write_examples(folder / "data" / task.name / "train.jsonl", train)
        write_examples(folder / "data" / task.name / "heldout.jsonl", heldout)
        data[task.name] = Splits(task, train, heldout)
        for system, rate in RATES.items():
            rows = [_prediction(task, example, system, rate, vocabulary, rng, heldout) for example in heldout]
            write_predictions(folder / "evaluate" / "predictions" / system / f"{task.name}.jsonl", rows)
            systems[system].predictions[task.name] = rows
    everyone = [*systems.values(), *trivial_baselines(data)]
    cards = {task.name: task for task in tasks}
    results = score(cards, everyone, stage_references(everyone), settings)
    results.write(folder / "evaluate" / "results.json")
    vocabulary.write(folder / "chains" / "vocabulary.yaml")
    counts = {"sample": 200, "rollouts": 3200, "accuracy": 1175, "format": 1150, "keep": 280}
    steps = [
        {"step": step, "unit": "chains" if n > 200 else "examples", "total": 2 * n, "tasks": {t.name: n for t in tasks}}
        for step, n in counts.items()
    ]
    write_json(folder / "chains" / "funnel.json", {"steps": steps})
    sure = {"low": 0.55, "high": 0.75, "n": 210, "users": 90}
    who = {"right": 0.66, "shuffled": 0.6, "generic": 0.59}
    block = {kind: {name: {"accuracy": value, **sure} for name, value in who.items()} for kind in ("PRP", "PQP", "all")}
    diagnosis = {"seen": block, "unseen": {"PQP": block["PQP"]}, "words": "The user embedding is used: 66.0%."}
    write_json(folder / "prmu" / "diagnosis.json", diagnosis)
    for stage, steps in (("guided", 40), ("exploratory", 15)):
        write_jsonl(folder / stage / "log.jsonl", [_logged(step, steps, stage, rng) for step in range(1, steps + 1)])
    write_jsonl(
        folder / "sft" / "log.jsonl",
        [{"step": s, "loss": 2.0 * 0.93**s + 0.2 + rng.random() * 0.05, "learning_rate": 1e-4} for s in range(1, 60)],
    )
    seconds = {"data": 2, "chains": 9, "sft": 310, "prmu": 120, "guided": 330, "exploratory": 60, "evaluate": 200}
    for stage, measured in seconds.items():
        write_json(
            folder / stage / "manifest.json",
            {
                "stage": stage,
                "hash": "0" * 64,
                "seed": 0,
                "settings": {},
                "versions": {"tagpr": "0.1.0", "torch": "2.13.0"},
                "files": {},
                "metrics": {},
                "measured": {"date": "2026-11-21T05:00:00+00:00", "seconds": measured, "peak_memory_mib": 3100},
            },
        )
    _write_fake_analyses(folder, tasks, results)
    return folder


def _write_fake_analyses(folder: Path, tasks: list[Task], results: Results) -> None:
    """analyses.json with every part: the run's own results stand in for those of each sweep's value."""
    change = Interval(-0.1, -0.2, 0.02)
    use = dict.fromkeys(("other", "none", "exchanged"), ProfileUse(40, Interval(0.4, -0.2, 0.02), change))
    practitioner = TaskAnalyses(
        profile_use={"base": use, "final": use},
        evidence={"final": Evidence(50, 40, 4)},
        by_history_length=tuple(
            HistoryBin(items, 20, 0.4 + i / 20, 0.3, change) for i, items in enumerate(("1", "2-3", "4-7", "8-15"))
        ),
        by_seen_user={"seen": Subset(30, change), "unseen": Subset(10, change)},
        who_loses=(Loser("u0007", -1.0, 1, ("package-section-7-0",)),),
    )
    Analyses(
        practitioner=dict.fromkeys((task.name for task in tasks), practitioner),
        profile_length=dict.fromkeys(("2", "4", "8"), results),
        retriever=dict.fromkeys(("recency", "bm25", "random"), results),
        rewards=dict.fromkeys(("0.8, 0.8, 0.2", "1, 1, 1"), results),
    ).write(folder / "analyses" / "analyses.json")


def _prediction(task, example, system, rate, vocabulary, rng, heldout) -> Prediction:
    text = fake_completion(task, example, system, rng.random() < rate, rng)
    words = len(text.split())
    return Prediction(
        id=example.id,
        user_id=example.user_id,
        completion=text,
        target=example.target,
        tokens=words,
        chain_tokens=max(0, words - 3) if "<think>" in text else 0,
        finished="</think>" in text or system == "base",
        entries=tuple(item.id for item in example.profile[-5:]),
        history=f"other:{rng.choice(heldout).user_id}" if "other" in system else "own",
        **judge(task, text, example.target, vocabulary),
    )


def _logged(step: int, steps: int, stage: str, rng: random.Random) -> dict:
    share = step / steps
    row = {
        "step": step,
        "reward": 0.2 + 0.5 * share + rng.gauss(0, 0.05),
        "reward/verifiable": 0.25 + 0.3 * share + rng.gauss(0, 0.05),
        "reward/format": min(1.0, 0.85 + 0.15 * share + rng.gauss(0, 0.02)),
        "reward/repetition": -0.05 + 0.03 * share + rng.gauss(0, 0.005),
        "length": 130 - 30 * share + rng.gauss(0, 3),
        "clip_fraction": abs(rng.gauss(0.1, 0.03)),
        "entropy": 1.2 - 0.4 * share + rng.gauss(0, 0.03),
    }
    if stage == "guided":
        row |= {"reward/tag": -0.1 + 0.1 * share, "reward/prmu": 0.5 + 0.1 * share + rng.gauss(0, 0.02)}
    return json.loads(json.dumps(row))
