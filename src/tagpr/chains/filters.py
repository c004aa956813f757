"""The filters that need no language model: is the answer right, is the form right, how many to keep."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.steps import Row
from tagpr.chains.vocabulary import Vocabulary
from tagpr.tasks.metrics import correctness, correctness_metric
from tagpr.tasks.types import Kind, Task


def accuracy_filter(
    rows: Sequence[Row],
    tasks: Mapping[str, Task],
    targets: Mapping[tuple[str, str], str],
    thresholds: Mapping[str, float],
) -> tuple[list[Row], dict[str, int]]:
    """Rows whose answer is right; adds `score`. `targets` is keyed by (task, example id)."""
    kept, notes = [], Counter[str]()
    for row in rows:
        task = tasks[row["task"]]
        if not row["answer"]:
            notes["no answer"] += 1
            continue
        score = correctness(task, row["answer"], targets[row["task"], row["example_id"]])
        least = thresholds.get(task.name, task.correct_from) if task.kind is Kind.TEXT else 1.0
        if score >= least:
            kept.append(row | {"score": score})
        else:
            measure = correctness_metric(task).label
            notes["wrong answer" if task.kind is not Kind.TEXT else f"{measure} below the threshold"] += 1
    return kept, dict(notes)


def format_filter(rows: Sequence[Row], vocabulary: Vocabulary, min_segments: int) -> tuple[list[Row], dict[str, int]]:
    """Rows whose completion is well formed, has enough tagged steps, and answers what the rollout answered.

    That the text inside the tags is still the raw chain is checked when tags are put (`tagpr.chains.tagging`).
    """
    kept, notes = [], Counter[str]()
    for row in rows:
        response = parse_response(row["completion"], vocabulary)
        if response.faults:
            notes[response.faults[0].kind] += 1
        elif len(response.segments) < min_segments:
            notes["too few tagged steps"] += 1
        elif response.answer != row["answer"]:
            notes["answer changed"] += 1
        else:
            kept.append(row | {"tags": [segment.tag for segment in response.segments]})
    return kept, dict(notes)


def evidence_filter(
    rows: Sequence[Row], vocabulary: Vocabulary, least: float, shown: Callable[[str, str], Shown]
) -> tuple[list[Row], dict[str, int]]:
    """Rows of whose checkable claims at least the share `least` is true. `shown(task, example id)`: what the prompt
    shows.
    """
    kept, notes = [], Counter[str]()
    for row in rows:
        report = check_evidence(parse_response(row["completion"], vocabulary), shown(row["task"], row["example_id"]))
        if report.precision is None:
            notes["no checkable claim"] += 1
        elif report.precision < least:
            notes[f"false claim: {report.false[0].kind}"] += 1
        else:
            kept.append(row)
    return kept, dict(notes)


def keep_best(
    rows: Sequence[Row], per_example: int | None, per_task: int | None, seed: int
) -> tuple[list[Row], dict[str, int]]:
    """The best rows of each example (score, then judge, then the order sampled; each text once), capped per task."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["example_id"]), []).append(row)
    notes = Counter[str]()
    by_task: dict[str, list[list[Row]]] = {}
    for (task, _), group in groups.items():
        distinct = list({row["completion"]: row for row in reversed(group)}.values())[::-1]
        notes["same text again"] += len(group) - len(distinct)
        distinct.sort(key=lambda row: (-row["score"], -(row.get("judge") or 0), row["sample"]))
        chosen = distinct if per_example is None else distinct[:per_example]
        notes["beyond the number kept per example"] += len(distinct) - len(chosen)
        by_task.setdefault(task, []).append(chosen)
    kept: list[Row] = []
    for task, chosen_groups in by_task.items():
        total = sum(map(len, chosen_groups))
        if per_task is not None and total > per_task:
            order = list(range(len(chosen_groups)))
            random.Random(f"{seed}/{task}/keep").shuffle(order)
            # one chain of every example before a second of any
            ranked = [(rank, place, i) for place, i in enumerate(order) for rank in range(len(chosen_groups[i]))]
            picked = sorted((i, rank) for rank, _, i in sorted(ranked)[:per_task])
            notes["beyond the number kept per task"] += total - per_task
            kept.extend(chosen_groups[i][rank] for i, rank in picked)
        else:
            kept.extend(row for group in chosen_groups for row in group)
    return kept, {name: count for name, count in notes.items() if count}
