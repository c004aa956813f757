"""What a folder of chains holds: funnel, tag frequencies, lengths, yield per task; printed, as JSON, or plotted."""

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from tagpr.chains.dataset import chains_folder, read_chains
from tagpr.chains.grammar import parse_response
from tagpr.chains.review import decisions_path, read_decisions
from tagpr.chains.steps import Funnel
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RunError

LENGTH_BIN = 5
"""Width of a bin of chain lengths, in words."""


def chain_stats(folder: Path) -> dict[str, Any]:
    """Statistics of the chains in `folder`, the chains' own or a run's. Raises DataError if it holds none."""
    folder = chains_folder(folder)
    funnel = Funnel.read(folder / "funnel.json")
    chains = read_chains(folder)
    vocabulary = load_vocabulary(folder / "vocabulary.yaml")
    sampled = next((step.tasks for step in funnel.steps if step.step == "sample"), {})
    tasks = {}
    for task in sorted(sampled):
        mine = [chain for chain in chains if chain.task == task]
        words = [len(chain.completion.split()) for chain in mine]
        tasks[task] = {
            "examples": sampled[task],
            "chains": len(mine),
            "covered": round(len({chain.example_id for chain in mine}) / max(1, sampled[task]), 4),
            "words": round(statistics.mean(words), 1) if words else 0.0,
            "lengths": {
                str(start): n for start, n in sorted(Counter(w // LENGTH_BIN * LENGTH_BIN for w in words).items())
            },
            "steps": round(statistics.mean(len(chain.tags) for chain in mine), 2) if mine else 0.0,
        }
    uses = Counter(tag for chain in chains for tag in chain.tags)
    segment_words: dict[str, list[int]] = {}
    for chain in chains:
        for segment in parse_response(chain.completion, vocabulary).segments:
            segment_words.setdefault(segment.tag, []).append(len(segment.text.split()))
    verdicts = Counter(decision["verdict"] for decision in read_decisions(decisions_path(folder)).values())
    return {
        "funnel": [
            {"step": s.step, "unit": s.unit, "total": s.total, "tasks": s.tasks, "skipped": s.skipped, "notes": s.notes}
            for s in funnel.steps
        ],
        "tasks": tasks,
        "tags": {
            name: {"count": uses[name], "words": round(statistics.mean(segment_words.get(name, [0])), 1)}
            for name in sorted(vocabulary.names, key=lambda name: (-uses[name], name))
        },
        "review": {"approved": verdicts["approve"], "rejected": verdicts["reject"]},
    }


def stats_text(stats: dict[str, Any]) -> str:
    """The statistics as plain text tables."""
    lines = ["Step                   unit               rows  by task"]
    for step in stats["funnel"]:
        by_task = step["skipped"] or ", ".join(f"{name} {count}" for name, count in step["tasks"].items())
        lines.append(f"{step['step']:<22} {step['unit']:<14} {step['total']:>8}  {by_task}")
        lines += [f"    {count:>8} {reason}" for reason, count in sorted(step["notes"].items())]
    lines += ["", "Task                   examples  chains  covered  words  steps"]
    for name, row in stats["tasks"].items():
        lines.append(
            f"{name:<22} {row['examples']:>8} {row['chains']:>7} {row['covered']:>8.1%}"
            f" {row['words']:>6} {row['steps']:>6}"
        )
    lines += ["", "Tag                       count  words per step"]
    lines += [f"{name:<24} {row['count']:>6} {row['words']:>13}" for name, row in stats["tags"].items()]
    if any(stats["review"].values()):
        lines += ["", f"Review: {stats['review']['approved']} approved, {stats['review']['rejected']} rejected"]
    return "\n".join(lines)


def plot_stats(stats: dict[str, Any], path: Path) -> None:
    """Funnel, tag frequencies, lengths and yield per task as one SVG. Needs matplotlib.

    Raises RunError if the file cannot be written.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    blue = "#4269d0"
    funnel = [step for step in stats["funnel"] if step["unit"] == "chains"]
    labels = [step["step"] + (" (skipped)" if step["skipped"] else "") for step in funnel]
    tasks = stats["tasks"]
    with matplotlib.rc_context({"svg.hashsalt": "tagpr", "font.size": 9}):
        figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
        for axis, names, values, form, title in (
            (axes[0, 0], labels, [step["total"] for step in funnel], "{:,.0f}", "Chains after each step"),
            (axes[0, 1], list(stats["tags"]), [row["count"] for row in stats["tags"].values()], "{:,.0f}",
             "Steps with each tag"),
            (axes[1, 0], list(tasks), [100 * row["covered"] for row in tasks.values()], "{:.0f}",
             "Examples with a chain, % of those sampled"),
        ):  # fmt: skip
            bars = axis.barh(names, values, color=blue)
            axis.bar_label(bars, fmt=form, padding=2)
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.set_title(title, loc="left")
        for task, row in tasks.items():
            axes[1, 1].stairs(*_densities(row["lengths"]), label=task, linewidth=1.5)
        axes[1, 1].set_title("Chains by length in words", loc="left")
        if tasks:
            axes[1, 1].legend(frameon=False)
        for axis in axes.flat:
            axis.spines[["top", "right"]].set_visible(False)
        try:
            figure.savefig(path, format="svg", metadata={"Date": None})
        except OSError as error:
            raise RunError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
        finally:
            pyplot.close(figure)


def _densities(lengths: dict[str, int]) -> tuple[list[int], list[int]]:
    """Counts and edges for `stairs`, from counts by the lower edge of a bin."""
    starts = [int(start) for start in lengths] or [0]
    edges = list(range(min(starts), max(starts) + 2 * LENGTH_BIN, LENGTH_BIN))
    return [lengths.get(str(edge), 0) for edge in edges[:-1]], edges
