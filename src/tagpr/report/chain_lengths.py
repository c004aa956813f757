"""Charts of the chains: their length and how often each tag is used (figure 5), faults, the tags' transitions."""

from collections import Counter
from collections.abc import Mapping, Sequence

from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.questions import OTHER_HISTORY
from tagpr.report.charts import Chart
from tagpr.report.diagrams import tag_moves, transition_diagram
from tagpr.report.reading import RunData
from tagpr.report.svg import bar_chart

Answers = Mapping[str, Sequence[Prediction]]
"""By system."""


def chain_charts(run: RunData) -> list[Chart]:
    """Figure 5 (length of chains, frequency of tags), format faults, and transitions from tag to tag."""
    systems = [name for name in run.systems if name != OTHER_HISTORY]
    lengths: dict[str, dict[str, float]] = {}
    for task, by_system in run.predictions.items():
        for system in systems:
            rows = by_system.get(system, [])
            if rows:
                lengths.setdefault(task, {})[system] = sum(row.chain_tokens for row in rows) / len(rows)
    if not lengths:
        return []
    found = [_bars("chain-length", "Chain length, mean tokens", lengths)]
    everything = {system: run.answers(system) for system in systems}
    if shares := _tag_shares(run, everything):
        found.append(_bars("tag-frequency", "Tags, share of all steps", shares, percent=True))
    if faults := _fault_shares(everything):
        found.append(_bars("faults", "Format faults, share of answers", faults, percent=True))
    if trained := run.last_trained:
        found.append(_transitions(trained, [row.tags for row in everything[trained]]))
    return found


def _tag_shares(run: RunData, answers: Answers) -> dict[str, dict[str, float]]:
    """The share of each tag in the steps of each system that was taught tags."""
    shares: dict[str, dict[str, float]] = {}
    for tag, _ in run.vocabulary:
        for system, rows in answers.items():
            counts = Counter(name for row in rows for name in row.tags)
            if counts and system != "base":
                shares.setdefault(tag, {})[system] = counts[tag] / counts.total()
    return {tag: row for tag, row in shares.items() if any(row.values())}


def _fault_shares(answers: Answers) -> dict[str, dict[str, float]]:
    """The eight commonest faults, and the share of each system's answers that have them."""
    faults: dict[str, dict[str, float]] = {}
    for system, rows in answers.items():
        for kind, count in Counter(kind for row in rows for kind in row.faults).items():
            faults.setdefault(kind, {})[system] = count / len(rows)
    return dict(sorted(faults.items(), key=lambda pair: (-max(pair[1].values()), pair[0]))[:8])


def _transitions(system: str, chains: Sequence[Sequence[str]]) -> Chart:
    title = f"From step to step ({system})"
    moves = sorted(tag_moves(chains).items(), key=lambda pair: (-pair[1], pair[0]))
    rows = tuple((a, b, count) for (a, b), count in moves)
    picture = transition_diagram(title, chains)
    return Chart("transitions", "chains", title, picture, ("from", "to", "count"), rows, wide=True)


def _bars(name: str, title: str, groups: dict[str, dict[str, float]], percent: bool = False) -> Chart:
    rows = tuple((group, series, value) for group, by in groups.items() for series, value in by.items())
    return Chart(name, "chains", title, bar_chart(title, groups, percent=percent), ("group", "series", "value"), rows)
