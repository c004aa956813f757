"""Does RL help a real model? Hundreds of GSPO steps from an SFT checkpoint of SmolLM2-135M, with a held-out curve.

    python benchmarks/rl_long.py prepare work     # data, chains and SFT of the recipe packages; about 7 minutes
    python benchmarks/rl_long.py run work         # hours on two cores; stop it at any moment, call it again to continue
    python benchmarks/rl_long.py rivals work      # `tagpr compare` of RIVALS on the same data; half an hour on one core
    python benchmarks/rl_long.py collect work     # -> benchmarks/results/rl-long.json, of whatever has been reached

The task is the bundled package-section (an exact reward), two questions held out per maintainer, which no history and
no training prompt holds. `run` first gives every setting of TRIALS its first steps, goes on with GOES_ON to the
end of guided RL, does exploratory RL from there, and at last tries the setting of AFTERWARDS. Half of the
maintainers' held-out questions are answered greedily every 25 steps, and by these settings are compared; those of the
other half are only answered by the SFT model and at the end of a stage. There is no PRMU here (gamma 0): the figures
are about R_v, R_rep, R_f and R_tag alone. `rivals` answers the same held-out questions with systems that know the
same 2,812 training examples: would a simpler one have done?
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from tagpr.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from tagpr.progress import StageContext
from tagpr.report.svg import Line, colour, line_chart
from tagpr.rewards.settings import RewardSettings
from tagpr.statistics import paired_bootstrap
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings

RECIPE = [
    "name=rl-long",
    "data.sources=[{task: package-section, heldout_per_user: 2}]",
    "chains.examples_per_task=330",
    "sft.save_steps=10",
]
COMMON = {"group_size": 5, "max_new_tokens": 96, "tokens_per_forward": 2048, "warmup_steps": 4}
COMMON |= {"heldout_every": 25, "save_steps": 10, "generation_batch_size": 192}
TRIALS = {
    "lr-3e-5": {"learning_rate": 3e-5, "prompts_per_step": 6, "minibatches": 2},
    "lr-3e-5-one-minibatch": {"learning_rate": 3e-5, "prompts_per_step": 6, "minibatches": 1},
}
_SCALED = {"learning_rate": 1e-5, "prompts_per_step": 6, "minibatches": 1, "scale_rewards": "batch"}
TRIALS |= {"lr-1e-5-batch-scale": _SCALED, "lr-1e-5-batch-scale-cooler": _SCALED | {"temperature": 0.7}}
TRIAL_STEPS = 25
GOES_ON = "lr-1e-5-batch-scale-cooler"
"""After 25 steps the two settings of batch scale were the best and not told apart (161 and 156 of 326 right, this one's
the fewer); it was far ahead in steps when the other one's trial, killed for memory at step 20, was finished."""
AFTERWARDS = {"lr-1e-5-batch-scale-cooler-12-prompts": TRIALS["lr-1e-5-batch-scale-cooler"] | {"prompts_per_step": 12}}
"""Compared when the choice was made: twice the prompts a step for half the steps, so as many prompts as a trial."""
AFTERWARDS_STEPS = 13
STAGES = {"guided": 240, "exploratory": 80}
RIVALS = ["majority", "user-majority", "last-label", "nearest-neighbour", "sft", "rag", "rag-r"]
"""`sft`: one epoch of all training examples' labels, 352 steps of 8 at the recipe's rate."""
FIT = ("trained_tokens", "cpu_seconds")
FEW = 330
FEW_LABELS = [
    f"name=rl-long-{FEW}",
    f"data.sources=[{{task: package-section, heldout_per_user: 2, max_train: {FEW}}}]",
    "systems=[sft]",
]
"""Label SFT on as many examples as the policy has chains of."""


def prepare(work: Path) -> None:
    """Data, chains and SFT; then the rows of RL: prompts in token ids with the columns the reward reads."""
    from tagpr.pipeline import make
    from tagpr.runs import Run
    from tagpr.systems.rows import training_row

    run = Run.open("packages", RECIPE, work / "runs")
    make(run, "data", "chains", "sft")
    prompts = run.prompts
    for splits in run.data.values():
        for examples, path in ((splits.train, "train.jsonl"), (splits.heldout, "heldout.jsonl")):
            rows = [training_row(prompts, splits.task, example) for example in examples]
            write_jsonl(work / path, map(asdict, rows))
            print(f"{path}: {len(rows)} prompts of {len({e.user_id for e in examples})} users")


def reward(work: Path, stage: str):
    """The stage's composite reward, without a PRMU."""
    from tagpr.chains.vocabulary import load_vocabulary
    from tagpr.rewards.composite import CompositeReward
    from tagpr.tasks.types import Task

    run = work / "runs" / "rl-long"
    tasks = {card["name"]: Task.model_validate(card) for card in read_json(run / "data" / "tasks.json")}
    vocabulary = load_vocabulary(run / "chains" / "vocabulary.yaml")
    return CompositeReward(tasks, vocabulary, RewardSettings(gamma=0.0), stage=stage)


def rows_of(path: Path) -> list[TrainingRow]:
    """The rows that `prepare` wrote."""
    return [TrainingRow(**row) for row in read_jsonl(path)]


def looked_at(rows: list[TrainingRow]) -> list[TrainingRow]:
    """The held-out questions of the curve: all those of every second person."""
    chosen = set(sorted({row.user_id for row in rows})[::2])
    return [row for row in rows if row.user_id in chosen]


def settings_of(name: str, steps: int) -> GSPOSettings:
    """The GSPO settings of a trial."""
    if name in AFTERWARDS:
        return GSPOSettings(**COMMON | AFTERWARDS[name] | {"steps": steps, "heldout_every": AFTERWARDS_STEPS})
    return GSPOSettings(**COMMON | TRIALS[name] | {"steps": steps})


def bring(work: Path, name: str, stage: str, start: Path, steps: int) -> None:
    """Train one stage of one setting up to `steps`, from where it stands."""
    from tagpr.training.gspo import train_gspo
    from tagpr.training.job import RLJob

    out = work / name / stage
    if (out / "model").exists():
        return
    at = reached(out)
    if at >= steps:
        return
    out.mkdir(parents=True, exist_ok=True)
    settings = settings_of(name, STAGES[stage])
    heldout = looked_at(rows_of(work / "heldout.jsonl"))
    begun = time.time()

    def progress(done: int, total: int, note: str) -> None:
        print(f"{name} {stage} {done}/{total} {time.time() - begun:.0f} s: {note}", flush=True)

    rows = rows_of(work / "train.jsonl")
    sft = work / "runs" / "rl-long" / "sft" / "model"
    job = RLJob(
        start, rows, reward(work, stage), settings, StageContext(out, progress=progress), heldout, reference=sft
    )
    train_gspo(job, stop_after=steps - at)


def reached(out: Path) -> int:
    """Steps of a stage that its newest checkpoint holds."""
    return max((int(path.name.split("-")[1]) for path in (out / "checkpoints").glob("step-*")), default=0)


def log_of(out: Path) -> list[dict]:
    """The stage's log so far."""
    path = out / "log.jsonl"
    if not path.exists():
        path = out / "checkpoints" / f"step-{reached(out)}" / "log.jsonl"
    return read_jsonl(path) if path.exists() else []


def answer_all(work: Path, model: Path, stage: str, path: Path) -> None:
    """Greedy answers of a model to all held-out questions."""
    from tagpr.engine.transformers_model import TransformersModel
    from tagpr.training.heldout import greedy_scores

    if path.exists() or not model.exists():
        return
    rows = rows_of(work / "heldout.jsonl")
    settings = GSPOSettings(**COMMON)
    policy = TransformersModel.load(model, settings.generation_batch_size)
    write_json(path, greedy_scores(policy, rows, reward(work, stage), settings))


def run(work: Path) -> None:
    """Everything that is still to do."""
    from tagpr.memory import keep_freed_memory

    keep_freed_memory()
    sft = work / "runs" / "rl-long" / "sft" / "model"
    for name in TRIALS:
        bring(work, name, "guided", sft, TRIAL_STEPS)
    name = GOES_ON
    start = sft
    answer_all(work, sft, "guided", work / "all-sft.json")
    for stage, steps in STAGES.items():
        bring(work, name, stage, start, steps)
        start = work / name / stage / "model"
        answer_all(work, start, stage, work / name / stage / "all.json")
    for name in AFTERWARDS:
        bring(work, name, "guided", sft, AFTERWARDS_STEPS)
    print("complete")


def rivals(work: Path) -> None:
    """The rivals' answers to the held-out questions, under work/runs/rl-long/compare."""
    from tagpr.experiments.compare import compare
    from tagpr.runs import Run

    asked = ["evaluate.limit=null", "evaluate.max_new_tokens=96"]
    compare(Run.open("packages", [*RECIPE, *asked, f"systems={json.dumps(RIVALS)}"], work / "runs"))
    compare(Run.open("packages", [*RECIPE, *asked, *FEW_LABELS], work / "runs"))


def rival_figures(work: Path) -> dict:
    """Every rival's accuracy, and what the trained policies are above it, paired."""
    rows = rows_of(work / "heldout.jsonl")
    people = [row.user_id for row in rows]
    trained = {"sft_chains": work / "all-sft.json"}
    trained |= {stage: work / GOES_ON / stage / "all.json" for stage in STAGES}
    ours = {name: read_json(path)["verifiable"] for name, path in trained.items() if path.exists()}
    found = {name: {"accuracy": spread(values, people)} for name, values in ours.items()}
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
        found[key] = {"accuracy": spread(values, people)}
        found[key]["fit"] = {k: v for k, v in read_json(folder / "fit.json").items() if k in FIT}
        for stage in STAGES.keys() & ours.keys():
            differences = [a - b for a, b in zip(ours[stage], values, strict=True)]
            found[key][f"{stage}_minus_it"] = spread(differences, people)
    return found


def spread(values: list[float], people: list[str]) -> dict[str, float]:
    """Mean and 95% interval of values or paired differences; people are drawn, with all their questions."""
    return asdict(paired_bootstrap(values, [0.0] * len(values), people))


def gain(rows: list[TrainingRow], after: dict, before: dict) -> dict:
    """Correctness before and after, and the difference with its interval."""
    difference = [a - b for a, b in zip(after["verifiable"], before["verifiable"], strict=True)]
    people = [row.user_id for row in rows]
    return {
        "questions": len(rows),
        "people": len(set(people)),
        "before": sum(before["verifiable"]) / len(rows),
        "after": sum(after["verifiable"]) / len(rows),
        "difference": spread(difference, people),
    }


def stage_figures(work: Path, name: str, stage: str, before: dict) -> dict:
    """Curves of one stage and its gain over SFT, on the questions of the curve and, at its end, on all of them."""
    out = work / name / stage
    rows = rows_of(work / "heldout.jsonl")
    asked = looked_at(rows)
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
        figures["over_sft_on_the_questions_never_looked_at"] = gain([rows[i] for i in other], after, sft)
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
    write_text(
        Path(__file__).parents[1] / "docs" / "rl-long.svg", line_chart(title, lines, "RL step", width=480) + "\n"
    )


def collect(work: Path) -> None:
    """Write the results file, and the picture of its curve, from whatever there is."""
    from results_file import write_results

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


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["prepare", "run", "rivals", "collect"])
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    {"prepare": prepare, "run": run, "rivals": rivals, "collect": collect}[options.verb](options.work)


if __name__ == "__main__":
    main()
