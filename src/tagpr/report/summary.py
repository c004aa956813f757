"""What the first screen says: did it get better, for whom, by how much, at what cost. Words and numbers, no markup."""

from dataclasses import dataclass

from tagpr.evaluation.questions import OTHER_HISTORY
from tagpr.evaluation.results import CHAIN_TOKENS, FORMAT_RATE, Results, TaskResults
from tagpr.report.reading import STAGES, RunData
from tagpr.report.tables.cells import label, readable, readable_bounds, unit
from tagpr.report.tables.results import best_trivial


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
    compared: tuple[str, ...]  # sentences: against the best trivial baseline, against SFT
    reads_user: str
    users_changed: dict[str, int]  # better, worse, same
    format_rate: str
    chain: str


def verdicts(run: RunData) -> list[Verdict]:
    """One verdict per task, on the last system there is (final, else guided, else sft)."""
    if run.results is None:
        return []
    found = []
    for name, task in run.results.tasks.items():
        system = next((key for key in ("final", "guided", "sft") if task.difference(key, "base")), None)
        if system is not None:
            found.append(_verdict(run, run.results, name, system))
    return found


def _verdict(run: RunData, results: Results, name: str, system: str) -> Verdict:
    task = results.tasks[name]
    metric, change = task.metric, task.difference(system, "base")
    assert change is not None
    base, points = task.systems["base"].points, task.systems[system].points
    reach = 1.15 * max(abs(change.low), abs(change.high), 1e-9)
    low, mean, high = (0.5 + 0.5 * bound / reach for bound in (change.low, change.mean, change.high))
    card = run.tasks.get(name)

    def from_base(key: str) -> str:
        return f"{readable(key, base.get(key))} → {readable(key, points.get(key))}"

    return Verdict(
        task=name,
        zero_shot=name in run.zero_shot,
        description=card.description if card else "",
        metric=label(metric),
        system=system,
        word={True: "better", False: "worse", None: "no clear change"}[task.better(change, metric)],
        n=task.n,
        users=task.users,
        base=readable(metric, base[metric]),
        value=readable(metric, points[metric]),
        change=readable(metric, change.mean, signed=True) + unit(metric),
        low=readable(metric, change.low, signed=True),
        high=readable(metric, change.high, signed=True),
        position=(low, mean, high),
        compared=(_against_trivial(results, name, system), _over_sft(task, system)),
        reads_user=_reads_user(task),
        users_changed=_users(run, name, system),
        format_rate=from_base(FORMAT_RATE),
        chain=from_base(CHAIN_TOKENS),
    )


def _against_trivial(results: Results, name: str, system: str) -> str:
    """The system against the best trivial baseline: being better than Base can be a low bar."""
    task, best = results.tasks[name], best_trivial(results, name)
    if best is None:
        return ""
    words = ("Better than", "Not clearly better than", "Worse than")
    value = readable(task.metric, task.systems[best].points[task.metric])
    return _sentence(task, system, best, words, f"the best trivial baseline ({label(best).lower()}, {value})")


def _over_sft(task: TaskResults, system: str) -> str:
    """What RL made of the SFT model."""
    if "sft" not in task.systems:
        return ""
    value = readable(task.metric, task.systems["sft"].points[task.metric])
    change = task.difference(system, "sft")
    if change is not None and change.low == change.high == 0:
        return f"RL left the scores of SFT ({value}) as they were."
    words = ("RL improved on", "RL did not clearly change", "RL fell behind")
    return _sentence(task, system, "sft", words, f"SFT ({value})")


def _sentence(task: TaskResults, system: str, reference: str, words: tuple[str, str, str], what: str) -> str:
    """`words` for better, unclear and worse, what is compared with, and the numbers; "" without a difference."""
    change = task.difference(system, reference)
    if change is None:
        return ""
    word = words[{True: 0, None: 1, False: 2}[task.better(change, task.metric)]]
    mean = readable(task.metric, change.mean, signed=True)
    return f"{word} {what}: {mean}{unit(task.metric)}, 95% interval {readable_bounds(task.metric, change, True)}."


def _reads_user(task: TaskResults) -> str:
    change = task.difference("final", OTHER_HISTORY)
    if change is None:
        return ""
    bounds = (
        f"{readable(task.metric, change.mean, signed=True)}{unit(task.metric)} with the user's own history instead of "
        f"another user's (95%: {readable_bounds(task.metric, change, signed=True)})"
    )
    word = {
        True: "It reads the user",
        False: "It does worse with the user's own history",
        None: "Not shown to read the user",
    }
    return f"{word[task.better(change, task.metric)]}: {bounds}."


def _users(run: RunData, task: str, system: str) -> dict[str, int]:
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
