"""Figures of `analyses/analyses.json`: the sweeps (figures 4, 7, 8), reward settings (table 6), and what lies beyond
the paper: use of the profile, quoted evidence, cold start, who loses. Each group answers one question."""

from collections.abc import Iterator
from typing import Any

from tagpr.report.figures import Figure
from tagpr.report.reading import SYSTEMS, RunData
from tagpr.report.svg import Line, bar_chart, colour, interval_chart, line_chart

SWEEPS = {
    "profile_length": ("items of history", "How much history does it need?"),
    "retriever": ("choice of history", "Which part of the history should it see?"),
}
REWARDS = "How much do the reward's weights matter?"
USE = "Does it read the person, and can it do without?"
EVIDENCE = "Does what it quotes exist?"
COLD = "How does it treat people it hardly knows?"
LOSERS = "Who loses?"
CONDITIONS = {"other": "another person's history", "none": "no history", "exchanged": "labels exchanged"}


def analysis_figures(run: RunData) -> list[Figure]:
    """Every figure that the analyses of a run allow, group by group."""
    found = []
    for key in SWEEPS:
        for task, by_value in run.analyses.get(key, {}).items():
            found.append(_sweep(key, task, by_value))
    rewards = run.analyses.get("rewards", {})
    for task in dict.fromkeys(task for block in rewards.values() for task in block):
        found.append(_rewards(task, rewards))
    practitioner = run.analyses.get("practitioner", {})
    for draw in (_use, _evidence, _cold_start, _losers):
        for task, block in practitioner.items():
            found += draw(task, block)
    return found


def _sweep(key: str, task: str, by_value: dict[str, Any]) -> Figure:
    words, group = SWEEPS[key]
    values = list(by_value)
    systems = list(dict.fromkeys(system for block in by_value.values() for system in block["systems"]))
    systems.sort(key=lambda name: SYSTEMS.index(name) if name in SYSTEMS else len(SYSTEMS))
    metric = next(iter(by_value.values()))["metric"]
    lines, rows = [], []
    for system in systems:
        points = [(i, by_value[value]) for i, value in enumerate(values) if system in by_value[value]["systems"]]
        means = [block["systems"][system][metric] for _, block in points]
        bounds = [block["intervals"][system][metric] for _, block in points]
        lows, highs = [b["low"] for b in bounds], [b["high"] for b in bounds]
        lines.append(Line(system, [float(i) for i, _ in points], means, colour(system), lows, highs))
        rows += [(system, values[i], m, lo, hi) for (i, _), m, lo, hi in zip(points, means, lows, highs, strict=True)]
    title = f"{task}: {metric} by {words}"
    axis = "history items shown, at most" if key == "profile_length" else "retriever"
    picture = line_chart(title, lines, axis, categories=values)
    name = f"sweep-{key.replace('_', '-')}-{task}"
    n = next(iter(by_value.values()))["n"]
    caption = f"{n} questions; bands: 95% intervals over people."
    header = ("system", axis, metric, "low", "high")
    return Figure(name, "sweeps", title, picture, header, tuple(rows), caption, group=group)


def _rewards(task: str, rewards: dict[str, Any]) -> Figure:
    blocks = {setting: block[task] for setting, block in rewards.items() if task in block}
    metric = next(iter(blocks.values()))["metric"]
    rows = tuple(
        (setting, block["systems"]["final"][metric], bounds["low"], bounds["high"])
        for setting, block in blocks.items()
        if (bounds := block["intervals"]["final"][metric])
    )
    title = f"{task}: final {metric} by α, β, γ"
    picture = interval_chart(title, [(*row, colour("final")) for row in rows], signed=False)
    header = ("setting", metric, "low", "high")
    return Figure(f"rewards-{task}", "sweeps", title, picture, header, rows, group=REWARDS)


def _use(task: str, block: dict[str, Any]) -> Iterator[Figure]:
    """How far answers and quality move when the history is somebody else's, absent, or has its labels exchanged."""
    use = block.get("profile_use", {})
    if not any(use.values()):
        return
    moved = {
        words: {system: by[key]["moved"]["mean"] for system, by in use.items() if key in by}
        for key, words in CONDITIONS.items()
        if any(key in by for by in use.values())
    }
    title = f"{task}: answers that change with the history"
    rows = tuple((words, system, share) for words, by in moved.items() for system, share in by.items())
    caption = "A model that reads the person moves with the history; one that goes by the text alone stays."
    picture = bar_chart(title, moved, percent=True)
    header = ("history", "system", "share")
    yield Figure(f"profile-use-{task}", "sweeps", title, picture, header, rows, caption, group=USE)
    title = f"{task}: quality against the own history"
    points = [
        (f"{system}, {CONDITIONS[key]}", *(by[key]["quality"][bound] for bound in ("mean", "low", "high")), system)
        for system, by in use.items()
        for key in CONDITIONS
        if key in by
    ]
    picture = interval_chart(title, [(*row[:4], colour(row[4])) for row in points], width=420)
    quality = tuple(row[:4] for row in points)
    header = ("case", "change", "low", "high")
    caption = "Left of 0: the answers are worse than with the person's own history. 95% intervals over people."
    yield Figure(f"profile-quality-{task}", "sweeps", title, picture, header, quality, caption, group=USE)


def _evidence(task: str, block: dict[str, Any]) -> Iterator[Figure]:
    """The share of quotations in the chains that stand neither in the history nor in the question."""
    shares = {
        system: {system: value["hallucinated"]}
        for system, value in block.get("evidence", {}).items()
        if value["hallucinated"] is not None
    }
    if shares:
        title = f"{task}: quotations found nowhere"
        rows = tuple((system, *block["evidence"][system].values()) for system in shares)
        header = ("system", "quotations", "in history", "in question", "share in neither")
        counts = ", ".join(f"{system} quotes {block['evidence'][system]['quotations']} times" for system in shares)
        caption = f"Share of the passages in quotation marks that are not the person's nor the question's: {counts}."
        picture = bar_chart(title, shares, percent=True)
        yield Figure(f"evidence-{task}", "sweeps", title, picture, header, rows, caption, group=EVIDENCE)


def _cold_start(task: str, block: dict[str, Any]) -> Iterator[Figure]:
    """Quality by length of the history, and for people whose questions were, or were not, trained on."""
    bins = block.get("by_history_length", [])
    if bins:
        title = f"{task}: score by length of the history"
        places = [float(i) for i in range(len(bins))]
        lines = [
            Line("base", places, [row["reference"] for row in bins], colour("base")),
            Line("final", places, [row["score"] for row in bins], colour("final")),
        ]
        picture = line_chart(title, lines, "items the person has", categories=[row["items"] for row in bins])
        rows = tuple((row["items"], row["n"], row["reference"], row["score"]) for row in bins)
        header = ("items", "n", "base", "final")
        caption = "Questions in each: " + ", ".join(f"{row['items']} items {row['n']}" for row in bins) + "."
        yield Figure(f"cold-start-{task}", "sweeps", title, picture, header, rows, caption, group=COLD)
    seen = block.get("by_seen_user", {})
    if seen:
        title = f"{task}: final against Base"
        rows = tuple((f"{name} in training ({by['n']})", *by["difference"].values()) for name, by in seen.items())
        picture = interval_chart(title, [(*row, colour("final")) for row in rows])
        header = ("people", "difference", "low", "high")
        caption = "People with questions of their own among those trained on, and people without (questions asked)."
        yield Figure(f"seen-users-{task}", "sweeps", title, picture, header, rows, caption, group=COLD)


def _losers(task: str, block: dict[str, Any]) -> Iterator[Figure]:
    """The people whose answers got worse than Base's, heaviest loss first."""
    losers = block.get("who_loses", [])
    if losers:
        title = f"{task}: who loses (score against Base)"
        picture = bar_chart(title, {row["user_id"][:14]: {"loss": -row["change"]} for row in losers[:12]})
        rows = tuple((row["user_id"], row["change"], row["n"], " ".join(row["cases"])) for row in losers)
        caption = f"People with worse answers than from Base: {len(losers)}; the dozen heaviest losses are drawn."
        header = ("person", "change", "questions", "cases")
        yield Figure(f"losers-{task}", "sweeps", title, picture, header, rows, caption, group=LOSERS)
