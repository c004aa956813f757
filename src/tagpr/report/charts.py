"""The report's charts: each an SVG with the table of its numbers, so that it can be saved alone (SVG and CSV).

Here those of results and training (reward curves per component). The chains' are in `chain_lengths` (figure 5) and
`word_clouds` (figure 6); sweeps (figures 4, 7, 8) are drawn from `analyses.json` by `analysis_charts`.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tagpr.files import write_text
from tagpr.report.reading import RunData
from tagpr.report.svg import Line, bar_chart, colour, interval_chart, line_chart

REWARDS = ("reward", "verifiable", "format", "repetition", "tag", "prmu", "evidence")
"""Curves of RL in this order; the log calls the components `reward/NAME`."""
TITLES = {
    "reward": "Whole reward",
    "verifiable": "R_v: right answer",
    "format": "R_f: valid format",
    "repetition": "R_rep: repetition penalty",
    "tag": "R_tag: well tagged",
    "prmu": "R_PRMU: personal",
    "length": "Completion length (tokens)",
    "entropy": "Entropy (nats per token)",
    "clip_fraction": "Share of clipped ratios",
    "kl": "KL to the SFT model (nats per token)",
    "format_rate": "Valid format, share of completions",
    "evidence": "R_evidence: true claims",
    "tag_rate": "Well tagged, share of completions",
    "zero_variance": "Groups without variance, share",
    "truncated": "Cut-off completions, share",
    "heldout/reward": "Reward, greedy, on training's own held-out prompts",
    "heldout/verifiable": "R_v, greedy, on training's own held-out prompts",
}
ALIASES = {"length": ["completions/mean_length"], "clip_fraction": ["clip_ratio/region_mean"]}
"""What TRL's own trainer calls them."""


@dataclass(frozen=True)
class Chart:
    """One picture and its numbers."""

    id: str
    section: str  # results, systems, training, chains, sweeps
    title: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]
    caption: str = ""
    wide: bool = False
    group: str = ""  # heading under which it is listed in its section

    def csv(self) -> str:
        """The numbers as CSV."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return stream.getvalue()


def save_charts(charts: Sequence[Chart], folder: Path) -> None:
    """Write `folder/ID.svg` and `folder/ID.csv` of every chart."""
    for chart in charts:
        write_text(folder / f"{chart.id}.svg", chart.svg + "\n")
        write_text(folder / f"{chart.id}.csv", chart.csv())


def result_charts(run: RunData) -> list[Chart]:
    """The difference to Base of every system, one chart per task, with intervals (main metric)."""
    found = []
    for name, task in (run.results.tasks if run.results else {}).items():
        changes = [(system, task.difference(system, "base")) for system in run.systems]
        rows = [(system, change.mean, change.low, change.high) for system, change in changes if change is not None]
        if rows:
            title = f"{name}: {task.metric}, difference to base"
            picture = interval_chart(title, [(*row, colour(row[0])) for row in rows])
            header = ("system", "difference", "low", "high")
            found.append(Chart(f"difference-{name}", "results", title, picture, header, tuple(rows)))
    return found


def training_charts(run: RunData) -> list[Chart]:
    """SFT loss and the curves of both RL stages, exploratory continuing from where guided ends."""
    found = []
    loss = [
        (float(row["step"]), float(row["loss"])) for row in run.logs.get("sft", []) if "loss" in row and "step" in row
    ]
    if loss:
        x, y = zip(*loss, strict=True)
        picture = line_chart("SFT loss", [Line("loss", x, y, colour("sft"))], "optimizer step", smooth=True)
        found.append(Chart("sft-loss", "training", "SFT loss", picture, ("step", "loss"), tuple(loss)))
    for key in TITLES:
        lines, rows, offset = [], [], 0.0
        for stage in ("guided", "exploratory"):
            points = _curve(run.logs.get(stage, []), key)
            if points:
                x = [offset + step for step, _ in points]
                y = [value for _, value in points]
                lines.append(Line(stage, x, y, colour("guided" if stage == "guided" else "final")))
                rows += [(stage, step, value) for step, value in points]
            steps = [float(row["step"]) for row in run.logs.get(stage, []) if "step" in row]
            offset += max(steps, default=0.0)
        if lines:
            title = TITLES[key]
            picture = line_chart(title, lines, "RL step", smooth=True)
            name = "rl-" + key.replace("/", "-").replace("_", "-")
            found.append(Chart(name, "training", title, picture, ("stage", "step", "value"), tuple(rows)))
    return found


def _curve(log: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    names = [f"reward/{key}"] if key in REWARDS and key != "reward" else [key]
    names += ALIASES.get(key, [])
    points = []
    for row in log:
        value = next((row[name] for name in names if isinstance(row.get(name), int | float)), None)
        if value is not None and "step" in row and value == value and abs(value) != float("inf"):
            points.append((float(row["step"]), float(value)))
    return points


def funnel_chart(run: RunData) -> Chart | None:
    """How many chains are left after each step of stage 0, by task, in the steps' order."""
    steps = run.funnel.get("steps", [])
    groups = {
        f"{step['step']} ({step['unit']})": {str(task): float(n) for task, n in step["tasks"].items()}
        for step in steps
        if isinstance(step, dict) and step.get("tasks") and not step.get("skipped")
    }
    if not groups:
        return None
    title = "What is left after each step of stage 0"
    rows = tuple((group, task, count) for group, by_task in groups.items() for task, count in by_task.items())
    return Chart("funnel", "training", title, bar_chart(title, groups), ("step", "task", "count"), rows)
