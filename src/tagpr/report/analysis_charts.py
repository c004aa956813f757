"""Charts of `analyses/analyses.json`: the sweeps (figures 4, 7, 8), reward settings (table 6), and what lies beyond
the paper: use of the profile, quoted evidence, cold start, who loses. Each group answers one question.
"""

from collections.abc import Iterator, Mapping

from tagpr.evaluation.analyses import Analyses, TaskAnalyses
from tagpr.evaluation.results import Results, TaskResults
from tagpr.report.charts import Chart
from tagpr.report.reading import SYSTEMS
from tagpr.report.svg import Line, bar_chart, colour, interval_chart, line_chart

SWEEPS = {
    "profile-length": ("items of history", "How much history does it need?", "history items shown, at most"),
    "retriever": ("choice of history", "Which part of the history should it see?", "retriever"),
}
REWARDS = "How much do the reward's weights matter?"
USE = "Does it read the user, and can it do without?"
EVIDENCE = "Does what it quotes exist?"
COLD = "How does it treat users it hardly knows?"
LOSERS = "Who loses?"
CONDITIONS = {"other": "another user's history", "none": "no history", "exchanged": "labels exchanged"}


def analysis_charts(analyses: Analyses) -> list[Chart]:
    """Every chart that the analyses of a run allow, group by group."""
    found = []
    for key, by_value in (("profile-length", analyses.profile_length), ("retriever", analyses.retriever)):
        found += [_sweep(key, task, values) for task, values in _by_task(by_value).items()]
    found += [_rewards(task, values) for task, values in _by_task(analyses.rewards).items()]
    for draw in (_use, _evidence, _cold_start, _losers):
        for task, block in analyses.practitioner.items():
            found += draw(task, block)
    return found


def _by_task(by_value: Mapping[str, Results]) -> dict[str, dict[str, TaskResults]]:
    """{value: results} -> {task: {value: its results}}."""
    tasks = dict.fromkeys(task for results in by_value.values() for task in results.tasks)
    return {
        task: {value: results.tasks[task] for value, results in by_value.items() if task in results.tasks}
        for task in tasks
    }


def _sweep(key: str, task: str, by_value: Mapping[str, TaskResults]) -> Chart:
    words, group, axis = SWEEPS[key]
    values, first = list(by_value), next(iter(by_value.values()))
    systems = list(dict.fromkeys(system for results in by_value.values() for system in results.systems))
    systems.sort(key=lambda name: SYSTEMS.index(name) if name in SYSTEMS else len(SYSTEMS))
    lines, rows = [], []
    for system in systems:
        points = {
            i: results.systems[system].intervals[first.metric]
            for i, results in enumerate(by_value.values())
            if system in results.systems
        }
        x, bounds = [float(i) for i in points], list(points.values())
        means, lows, highs = [b.mean for b in bounds], [b.low for b in bounds], [b.high for b in bounds]
        lines.append(Line(system, x, means, colour(system), lows, highs))
        rows += [(system, values[i], bound.mean, bound.low, bound.high) for i, bound in points.items()]
    title = f"{task}: {first.metric} by {words}"
    picture = line_chart(title, lines, axis, categories=values)
    caption = f"{first.n} questions; bands: 95% intervals over users."
    header = ("system", axis, first.metric, "low", "high")
    return Chart(f"sweep-{key}-{task}", "sweeps", title, picture, header, tuple(rows), caption, group=group)


def _rewards(task: str, by_setting: Mapping[str, TaskResults]) -> Chart:
    metric = next(iter(by_setting.values())).metric
    bounds = {setting: results.systems["final"].intervals[metric] for setting, results in by_setting.items()}
    rows = tuple((setting, value.mean, value.low, value.high) for setting, value in bounds.items())
    title = f"{task}: final {metric} by α, β, γ"
    picture = interval_chart(title, [(*row, colour("final")) for row in rows], signed=False)
    header = ("setting", metric, "low", "high")
    return Chart(f"rewards-{task}", "sweeps", title, picture, header, rows, group=REWARDS)


def _use(task: str, block: TaskAnalyses) -> Iterator[Chart]:
    """How far answers and quality move when the history is another user's, absent, or has its labels exchanged."""
    use = block.profile_use
    if not any(use.values()):
        return
    moved = {
        words: {system: by[key].moved.mean for system, by in use.items() if key in by}
        for key, words in CONDITIONS.items()
        if any(key in by for by in use.values())
    }
    title = f"{task}: answers that change with the history"
    rows = tuple((words, system, share) for words, by in moved.items() for system, share in by.items())
    caption = "A model that reads the user moves with the history; one that goes by the text alone stays."
    picture = bar_chart(title, moved, percent=True)
    header = ("history", "system", "share")
    yield Chart(f"profile-use-{task}", "sweeps", title, picture, header, rows, caption, group=USE)
    title = f"{task}: quality against the user's own history"
    points = [
        (f"{system}, {words}", by[key].quality.mean, by[key].quality.low, by[key].quality.high, colour(system))
        for system, by in use.items()
        for key, words in CONDITIONS.items()
        if key in by
    ]
    picture = interval_chart(title, points, width=420)
    quality = tuple(row[:4] for row in points)
    header = ("case", "change", "low", "high")
    caption = "Left of 0: the answers are worse than with the user's own history. 95% intervals over users."
    yield Chart(f"profile-quality-{task}", "sweeps", title, picture, header, quality, caption, group=USE)


def _evidence(task: str, block: TaskAnalyses) -> Iterator[Chart]:
    """The share of quotations in the chains that are neither in the history nor in the question."""
    found = {system: counts for system, counts in block.evidence.items() if counts.hallucinated is not None}
    if found:
        title = f"{task}: quotations found nowhere"
        shares = {system: {system: counts.hallucinated or 0.0} for system, counts in found.items()}
        rows = tuple(
            (system, c.quotations, c.in_history, c.in_question, c.hallucinated or 0.0) for system, c in found.items()
        )
        header = ("system", "quotations", "in history", "in question", "share in neither")
        counts = ", ".join(f"{system} quotes {c.quotations} times" for system, c in found.items())
        caption = f"Share of the passages in quotation marks that are not the user's nor the question's: {counts}."
        picture = bar_chart(title, shares, percent=True)
        yield Chart(f"evidence-{task}", "sweeps", title, picture, header, rows, caption, group=EVIDENCE)


def _cold_start(task: str, block: TaskAnalyses) -> Iterator[Chart]:
    """Quality by length of the history, and for users whose questions were, or were not, trained on."""
    bins = block.by_history_length
    if bins:
        title = f"{task}: score by length of the history"
        places = [float(i) for i in range(len(bins))]
        lines = [
            Line("base", places, [row.reference for row in bins], colour("base")),
            Line("final", places, [row.score for row in bins], colour("final")),
        ]
        picture = line_chart(title, lines, "past items of the user", categories=[row.items for row in bins])
        rows = tuple((row.items, row.n, row.reference, row.score) for row in bins)
        header = ("items", "n", "base", "final")
        caption = "Questions in each: " + ", ".join(f"{row.items} items {row.n}" for row in bins) + "."
        yield Chart(f"cold-start-{task}", "sweeps", title, picture, header, rows, caption, group=COLD)
    if block.by_seen_user:
        title = f"{task}: final against Base"
        seen = tuple(
            (f"{name} in training ({part.n})", part.difference.mean, part.difference.low, part.difference.high)
            for name, part in block.by_seen_user.items()
        )
        picture = interval_chart(title, [(*row, colour("final")) for row in seen])
        header = ("users", "difference", "low", "high")
        caption = "Users with questions of their own among those trained on, and users without (questions in brackets)."
        yield Chart(f"seen-users-{task}", "sweeps", title, picture, header, seen, caption, group=COLD)


def _losers(task: str, block: TaskAnalyses) -> Iterator[Chart]:
    """The users whose answers got worse than Base's, heaviest loss first."""
    losers = block.who_loses
    if losers:
        title = f"{task}: who loses (score against Base)"
        picture = bar_chart(title, {loser.user_id[:14]: {"loss": -loser.change} for loser in losers[:12]})
        rows = tuple((loser.user_id, loser.change, loser.n, " ".join(loser.cases)) for loser in losers)
        caption = f"Users with worse answers than from Base: {len(losers)}; the dozen heaviest losses are drawn."
        header = ("user", "change", "questions", "cases")
        yield Chart(f"losers-{task}", "sweeps", title, picture, header, rows, caption, group=LOSERS)
