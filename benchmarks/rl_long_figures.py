"""What `rl_long.py collect` writes: curves, gains with their intervals, the rivals on the same questions."""

import json
from dataclasses import asdict
from pathlib import Path

from results_file import write_chart, write_results
from rl_long_trials import (
    AFTERWARDS,
    FEW,
    FIT,
    GOES_ON,
    RIVALS,
    STAGES,
    TRIAL_STEPS,
    TRIALS,
    evaluated,
    log_of,
    rows_of,
    settings_of,
)
from tagpr.files import read_json, read_jsonl
from tagpr.report.svg import Line, colour, line_chart
from tagpr.rewards.settings import RewardSettings
from tagpr.statistics import paired_bootstrap
from tagpr.training.rows import TrainingRow


def rival_figures(work: Path) -> dict:
    """Every rival's accuracy, and what the trained policies are above it, paired."""
    rows = rows_of(work / "heldout.jsonl")
    users = [row.user_id for row in rows]
    trained = {"sft_chains": work / "all-sft.json"}
    trained |= {stage: work / GOES_ON / stage / "all.json" for stage in STAGES}
    ours = {name: read_json(path)["verifiable"] for name, path in trained.items() if path.exists()}
    found = {name: {"accuracy": spread(values, users)} for name, values in ours.items()}
    for key, run, name in [
        *((name, "rl-long", name) for name in RIVALS),
        (f"sft, {FEW} labels", f"rl-long-{FEW}", "sft"),
    ]:
        folder = work / "runs" / run / "compare" / "systems" / name
        path = folder / "predictions" / "package-section.jsonl"
        if not path.exists():
            continue
        answered = read_jsonl(path)
        if [(row["user_id"], row["target"]) for row in answered] != [(row.user_id, row.target) for row in rows]:
            raise SystemExit(f"{path}: other questions than {work / 'heldout.jsonl'}, or not all; call `rivals` again")
        values = [row["scores"]["accuracy"] for row in answered]
        found[key] = {"accuracy": spread(values, users)}
        found[key]["fit"] = {k: v for k, v in read_json(folder / "fit.json").items() if k in FIT}
        for stage in STAGES.keys() & ours.keys():
            differences = [a - b for a, b in zip(ours[stage], values, strict=True)]
            found[key][f"{stage}_minus_it"] = spread(differences, users)
    return found


def spread(values: list[float], users: list[str]) -> dict[str, float]:
    """Mean and 95% interval of values or paired differences; users are drawn, with all their questions."""
    return asdict(paired_bootstrap(values, [0.0] * len(values), users))


def gain(rows: list[TrainingRow], after: dict, before: dict) -> dict:
    """Correctness before and after, and the difference with its interval."""
    difference = [a - b for a, b in zip(after["verifiable"], before["verifiable"], strict=True)]
    users = [row.user_id for row in rows]
    return {
        "questions": len(rows),
        "users": len(set(users)),
        "before": sum(before["verifiable"]) / len(rows),
        "after": sum(after["verifiable"]) / len(rows),
        "difference": spread(difference, users),
    }


def stage_figures(work: Path, name: str, stage: str, before: dict) -> dict:
    """Curves of one stage and its gain over SFT, on the questions of the curve and, at its end, on all of them."""
    out = work / name / stage
    rows = rows_of(work / "heldout.jsonl")
    asked = evaluated(rows)
    tables = [(int(path.stem.split("-")[1]), read_json(path)) for path in sorted((out / "heldout").glob("step-*.json"))]
    keys = ("verifiable", "format", "tag", "repetition", "length")
    figures = {
        "steps": len(log_of(out)),
        "of": STAGES[stage],
        "heldout_curve": [
            {"step": step} | {k: sum(table[k]) / len(table[k]) for k in keys if k in table} for step, table in tables
        ],
    }
    if stage == "guided" and TRIAL_STEPS in dict(tables):
        figures["over_sft_after_the_trials_steps"] = gain(asked, dict(tables)[TRIAL_STEPS], before)
    step, last = tables[-1]
    if step or stage != "guided":  # before any step there is nothing to compare
        figures["over_sft_on_the_curves_questions"] = {"step": step} | gain(asked, last, before)
    if (out / "all.json").exists():
        after, sft = read_json(out / "all.json"), read_json(work / "all-sft.json")
        figures["over_sft_on_all_questions"] = gain(rows, after, sft)
        chosen = {row.user_id for row in asked}
        other = [i for i, row in enumerate(rows) if row.user_id not in chosen]
        if stage == "exploratory":
            guided = read_json(work / name / "guided" / "all.json")
            figures["over_guided_on_all_questions"] = gain(rows, after, guided)
        after, sft = ({"verifiable": [table["verifiable"][i] for i in other]} for table in (after, sft))
        figures["over_sft_on_the_questions_never_evaluated"] = gain([rows[i] for i in other], after, sft)
    log = log_of(out)
    figures["training_in_tens_of_steps"] = [
        {"step": part[-1]["step"]}
        | {key: sum(r[key] for r in part if key in r) / sum(key in r for r in part) for key in keys_of(part)}
        for part in (log[i : i + 10] for i in range(0, len(log), 10))
    ]
    return figures


def keys_of(part: list[dict]) -> list[str]:
    """Every key of some log rows but the step."""
    return sorted({key for row in part for key in row} - {"step"})


def draw(figures: dict) -> None:
    """docs/rl-long.svg: the held-out curve of the setting that went on, exploratory RL after guided."""
    lines, begun = [], 0
    for stage in STAGES:
        found = figures["trials"].get(GOES_ON, {}).get(stage)
        if found:
            x = [begun + row["step"] for row in found["heldout_curve"]]
            y = [row["verifiable"] for row in found["heldout_curve"]]
            lines.append(Line(f"{stage} RL", x, y, colour("final" if stage == "exploratory" else stage)))
            begun += found["steps"]
    title = "Greedy accuracy on 326 held-out questions, every 25 steps"
    write_chart("rl-long", line_chart(title, lines, "RL step", width=480))


def collect(work: Path) -> None:
    """Write the results file, and the picture of its curve, from whatever there is."""
    figures: dict = {
        "model": "SmolLM2-135M-Instruct after SFT on the chains of 330 examples (36 steps of 8)",
        "training_prompts": len(read_jsonl(work / "train.jsonl")),
        "reward": RewardSettings(gamma=0.0).model_dump(mode="json"),
        "trials": {},
    }
    for name in TRIALS | AFTERWARDS:
        if (work / name / "guided" / "heldout" / "step-00000.json").exists():
            before = read_json(work / name / "guided" / "heldout" / "step-00000.json")
            figures["trials"][name] = {"settings": settings_of(name, STAGES["guided"]).model_dump(mode="json")}
            for stage in STAGES:
                if (work / name / stage / "heldout").exists():
                    figures["trials"][name][stage] = stage_figures(work, name, stage, before)
    if (work / "runs" / "rl-long" / "compare").is_dir():
        figures["rivals_on_all_questions"] = rival_figures(work)
    draw(figures)
    print(
        json.dumps(
            {
                name: {
                    stage: [entry[stage]["steps"], entry[stage].get("over_sft_on_the_curves_questions")]
                    for stage in STAGES
                    if stage in entry
                }
                for name, entry in figures["trials"].items()
            },
            indent=1,
        )
    )
    print(
        write_results(
            "rl-long",
            "for verb in prepare run rivals collect; do python benchmarks/rl_long.py $verb work; done",
            figures,
        )
    )
