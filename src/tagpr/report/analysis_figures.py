"""Figures of `analyses/analyses.json`: the sweeps (figures 4, 7, 8), reward settings (table 6), and what lies beyond
the paper: use of the profile, quoted evidence, cold start, who loses."""

from typing import Any

from tagpr.report.figures import Figure
from tagpr.report.reading import SYSTEMS, RunData
from tagpr.report.svg import Line, bar_chart, colour, interval_chart, line_chart

SWEEPS = {"profile_length": "by number of history items shown", "retriever": "by choice of history items"}
CONDITIONS = {"other": "another person's history", "none": "no history", "exchanged": "labels exchanged"}


def analysis_figures(run: RunData) -> list[Figure]:
    """Every figure that the analyses of a run allow."""
    found = []
    for key, words in SWEEPS.items():
        for task, by_value in run.analyses.get(key, {}).items():
            found.append(_sweep(key, words, task, by_value))
    rewards = run.analyses.get("rewards", {})
    for task in dict.fromkeys(task for block in rewards.values() for task in block):
        found.append(_rewards(task, rewards))
    for task, block in run.analyses.get("practitioner", {}).items():
        found += _practitioner(task, block)
    return found


def _sweep(key: str, words: str, task: str, by_value: dict[str, Any]) -> Figure:
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
    title = f"{task}: {metric} {words}"
    axis = "history items" if key == "profile_length" else "retriever"
    picture = line_chart(title, lines, axis, categories=values)
    name = f"sweep-{key.replace('_', '-')}-{task}"
    return Figure(name, "sweeps", title, picture, ("system", axis, metric, "low", "high"), tuple(rows))


def _rewards(task: str, rewards: dict[str, Any]) -> Figure:
    blocks = {setting: block[task] for setting, block in rewards.items() if task in block}
    metric = next(iter(blocks.values()))["metric"]
    rows = tuple(
        (setting, block["systems"]["final"][metric], bounds["low"], bounds["high"])
        for setting, block in blocks.items()
        if (bounds := block["intervals"]["final"][metric])
    )
    title = f"{task}: final {metric} by reward weights α, β, γ"
    picture = interval_chart(title, [(*row, colour("final")) for row in rows])
    return Figure(f"rewards-{task}", "sweeps", title, picture, ("setting", metric, "low", "high"), rows)


def _practitioner(task: str, block: dict[str, Any]) -> list[Figure]:
    found = []
    use = block.get("profile_use", {})
    if any(use.values()):
        moved = {
            words: {system: by[key]["moved"]["mean"] for system, by in use.items() if key in by}
            for key, words in CONDITIONS.items()
            if any(key in by for by in use.values())
        }
        title = f"{task}: answers that change with the history"
        rows = tuple((words, system, share) for words, by in moved.items() for system, share in by.items())
        found.append(
            Figure(
                f"profile-use-{task}",
                "sweeps",
                title,
                bar_chart(title, moved, percent=True),
                ("history", "system", "share"),
                rows,
                "A model that reads the person moves with the history; one that goes by the text alone stays.",
            )
        )
        title = f"{task}: quality against the own history"
        points = [
            (f"{system}, {CONDITIONS[key]}", *(by[key]["quality"][bound] for bound in ("mean", "low", "high")), system)
            for system, by in use.items()
            for key in CONDITIONS
            if key in by
        ]
        picture = interval_chart(title, [(*row[:4], colour(row[4])) for row in points], width=420)
        rows = tuple(row[:4] for row in points)
        found.append(
            Figure(f"profile-quality-{task}", "sweeps", title, picture, ("case", "change", "low", "high"), rows)
        )
    hallucinated = {
        system: {"hallucinated": value["hallucinated"]}
        for system, value in block.get("evidence", {}).items()
        if value["hallucinated"] is not None
    }
    if hallucinated:
        title = f"{task}: quotations found nowhere"
        rows = tuple((system, *block["evidence"][system].values()) for system in hallucinated)
        header = ("system", "quotations", "in history", "in question", "share in neither")
        found.append(
            Figure(f"evidence-{task}", "sweeps", title, bar_chart(title, hallucinated, percent=True), header, rows)
        )
    bins = block.get("by_history_length", [])
    if bins:
        title = f"{task}: score by length of the history"
        places = [float(i) for i in range(len(bins))]
        lines = [
            Line("base", places, [row["reference"] for row in bins], colour("base")),
            Line("final", places, [row["score"] for row in bins], colour("final")),
        ]
        picture = line_chart(title, lines, "history items", categories=[row["items"] for row in bins])
        rows = tuple((row["items"], row["n"], row["reference"], row["score"]) for row in bins)
        found.append(Figure(f"cold-start-{task}", "sweeps", title, picture, ("items", "n", "base", "final"), rows))
    losers = block.get("who_loses", [])
    if losers:
        title = f"{task}: who loses (score against Base)"
        picture = bar_chart(title, {row["user_id"][:14]: {"loss": -row["change"]} for row in losers[:12]})
        rows = tuple((row["user_id"], row["change"], row["n"], " ".join(row["cases"])) for row in losers)
        caption = f"People with worse answers than from Base: {len(losers)}; the dozen heaviest losses are drawn."
        header = ("person", "change", "questions", "cases")
        found.append(Figure(f"losers-{task}", "sweeps", title, picture, header, rows, caption))
    return found
