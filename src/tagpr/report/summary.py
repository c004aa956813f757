"""What the first screen says: did it get better, for whom, by how much, at what cost. Words and numbers, no markup."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tagpr.report.reading import STAGES, RunData
from tagpr.tasks.metrics import higher_is_better

LABELS = {
    "base": "Base",
    "sft": "SFT",
    "guided": "Guided RL",
    "final": "Final",
    "final-other-history": "Final, another person's history",
    "format_rate": "valid format",
    "chain_tokens": "chain tokens",
    "accuracy": "accuracy",
    "f1": "macro-F1",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "mae": "MAE",
    "rmse": "RMSE",
    "majority": "Commonest label",
    "user-majority": "The person's commonest answer",
    "last-label": "The person's latest answer",
    "nearest-neighbour": "The person's answer to the closest past item",
    "lead-sentence": "First sentence",
    "neutral-copy": "The neutral text itself",
    "common-habits": "Most people's habits",
    "own-habits": "The person's own habits, counted",
}
_PERCENT = ("accuracy", "f1", "format_rate", "f1_positive")


def label(name: str) -> str:
    """A name for readers; unknown ones stay as they are."""
    return LABELS.get(name, name)


def show(metric: str, value: float | None, signed: bool = False) -> str:
    """A metric's value for readers: percents for shares, three decimals for ROUGE, one for tokens."""
    if value is None:
        return "–"
    sign = "+" if signed and value > 0 else ""
    if metric in _PERCENT:
        shown = f"{sign}{100 * value:.1f}"
        shown = shown if signed else f"{shown}%"
    elif metric == "chain_tokens":
        shown = f"{sign}{value:.0f}"
    else:
        shown = f"{sign}{value:.3f}"
    return shown.replace("-", "−")


@dataclass(frozen=True)
class Verdict:
    """One task's answer to "did it get better?"."""

    task: str
    zero_shot: bool  # never trained on
    description: str
    metric: str
    system: str
    word: str  # better, worse, or no clear change
    n: int
    users: int
    base: str
    value: str
    change: str
    low: str
    high: str
    position: tuple[float, float, float]  # low, mean, high as shares of the little scale, 0.5 is no change
    compared: tuple[str, ...]  # sentences: against the best answer that needs no model, against SFT
    reads_person: str
    people: dict[str, int]  # better, worse, same
    format_rate: str
    chain: str


def verdicts(run: RunData) -> list[Verdict]:
    """One verdict a task, on the last system there is (final, else guided, else sft)."""
    found = []
    for name, block in run.metrics.get("tasks", {}).items():
        differences = block.get("difference_to_base", {})
        system = next((key for key in ("final", "guided", "sft") if key in differences), None)
        if system is None:
            continue
        metric = block.get("metric") or next(iter(differences[system]))
        change = differences[system][metric]
        good = 1.0 if higher_is_better(metric) else -1.0
        low, high = sorted((good * change["low"], good * change["high"]))
        word = "better" if low > 0 else "worse" if high < 0 else "no clear change"
        reach = 1.15 * max(abs(change["low"]), abs(change["high"]), 1e-9)
        task = run.tasks.get(name)
        systems = block["systems"]
        found.append(
            Verdict(
                task=name,
                zero_shot=name in run.zero_shot,
                description=task.description if task else "",
                metric=label(metric),
                system=system,
                word=word,
                n=block["n"],
                users=block.get("users", block["n"]),
                base=show(metric, systems["base"][metric]),
                value=show(metric, systems[system][metric]),
                change=show(metric, change["mean"], signed=True) + (" points" if metric in _PERCENT else ""),
                low=show(metric, change["low"], signed=True),
                high=show(metric, change["high"], signed=True),
                position=tuple(0.5 + 0.5 * change[key] / reach for key in ("low", "mean", "high")),  # type: ignore[arg-type]
                compared=(
                    _against_simple(block, system, metric, good),
                    _over_sft(block, system, metric, good),
                ),
                reads_person=_reads_person(block, metric, good),
                people=_people(run, name, system),
                format_rate=f"{show('format_rate', systems['base'].get('format_rate'))} → "
                f"{show('format_rate', systems[system].get('format_rate'))}",
                chain=f"{show('chain_tokens', systems['base'].get('chain_tokens'))} → "
                f"{show('chain_tokens', systems[system].get('chain_tokens'))}",
            )
        )
    return found


def _against_simple(block: Mapping[str, Any], system: str, metric: str, good: float) -> str:
    """How the system stands against the best answer that needs no model: being better than Base can be a low bar."""
    rows = {name: values[metric] for name, values in block.get("sanity", {}).items() if metric in values}
    if not rows:
        return ""
    best = max(rows, key=lambda name: good * rows[name])
    difference = block.get("differences", {}).get(f"{system} - {best}", {}).get(metric)
    words = ("Better than", "Not clearly better than", "Worse than")
    what = f"the best answer that needs no model ({label(best).lower()}, {show(metric, rows[best])})"
    return _sentence(difference, metric, good, words, what)


def _over_sft(block: Mapping[str, Any], system: str, metric: str, good: float) -> str:
    """What RL made of the SFT model."""
    difference = block.get("differences", {}).get(f"{system} - sft", {}).get(metric)
    words = ("RL improved on", "RL did not clearly change", "RL fell behind")
    return _sentence(
        difference, metric, good, words, f"SFT ({show(metric, block['systems'].get('sft', {}).get(metric))})"
    )


def _sentence(
    difference: Mapping[str, float] | None, metric: str, good: float, words: tuple[str, str, str], what: str
) -> str:
    """`words` for better, unclear and worse, what is compared with, and the numbers; "" without a difference."""
    if not difference:
        return ""
    low, high = sorted((good * difference["low"], good * difference["high"]))
    word = words[0] if low > 0 else words[2] if high < 0 else words[1]
    return (
        f"{word} {what}: {show(metric, difference['mean'], True)}{' points' if metric in _PERCENT else ''}, "
        f"95% interval {show(metric, difference['low'], True)} to {show(metric, difference['high'], True)}."
    )


def _reads_person(block: Mapping[str, Any], metric: str, good: float) -> str:
    difference = block.get("differences", {}).get("final - final-other-history", {}).get(metric)
    if not difference:
        return ""
    low, high = sorted((good * difference["low"], good * difference["high"]))
    unit = " points" if metric in _PERCENT else ""
    bounds = (
        f"{show(metric, difference['mean'], True)}{unit} with the person's own history instead of somebody else's "
        f"(95%: {show(metric, difference['low'], True)} to {show(metric, difference['high'], True)})"
    )
    if low > 0:
        return f"It reads the person: {bounds}."
    if high < 0:
        return f"It does worse with the person's own history: {bounds}."
    return f"Not shown to read the person: {bounds}."


def _people(run: RunData, task: str, system: str) -> dict[str, int]:
    """Users whose mean score went up, down or stayed against Base."""
    by_system = run.predictions.get(task, {})
    changes: dict[str, float] = {}
    base = {row.id: row for row in by_system.get("base", [])}
    for row in by_system.get(system, []):
        if row.id in base:
            change = row.correctness - base[row.id].correctness
            changes[row.user_id] = changes.get(row.user_id, 0.0) + change
    counts = {"better": 0, "same": 0, "worse": 0}
    for change in changes.values():
        counts["better" if change > 1e-9 else "worse" if change < -1e-9 else "same"] += 1
    return counts


def costs(run: RunData) -> list[tuple[str, float, int | None]]:
    """(stage, seconds, peak MiB) of every stage whose manifest was read."""
    rows = []
    for stage in STAGES:
        measured = run.manifests.get(stage, {}).get("measured", {})
        if isinstance(measured.get("seconds"), int | float):
            rows.append((stage, float(measured["seconds"]), measured.get("peak_memory_mib")))
    return rows


def minutes(seconds: float) -> str:
    """`75` -> `1 min 15 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
