"""Does RL help a real model? Hundreds of GSPO steps from a run's SFT checkpoint, with a held-out curve.

    python benchmarks/rl_long.py prepare runs/quickstart prepared          # where the run is: rows and the SFT model
    python benchmarks/rl_long.py run prepared work --minutes 8             # again and again until it says "complete"
    python benchmarks/rl_long.py collect prepared work                     # -> benchmarks/results/rl-long.json

`run` trains every setting below side by side (`--jobs` processes), guided then exploratory, continues what it finds in
`work`, and stops in time. It needs torch, transformers, pydantic, rapidfuzz and PyYAML, not TRL. Held-out questions are
those of the run plus training questions that no chain was made for, several of each person; nothing is trained on them.
The guided reward has no PRMU here (gamma 0), so that the figures are about R_v, R_rep, R_f and R_tag alone.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from tagpr.files import read_json, read_jsonl, write_json, write_jsonl
from tagpr.training.settings import GSPOSettings

COMMON = {"group_size": 8, "max_new_tokens": 160, "heldout_every": 25, "save_steps": 25, "decode_rows": 512}
COMMON |= {"tokens_per_forward": 32768, "epsilon_low": 3e-4, "epsilon_high": 4e-4}
SETTINGS = {
    "lr-3e-6": {"learning_rate": 3e-6, "prompts_per_step": 32, "minibatches": 2},
    "lr-1e-5": {"learning_rate": 1e-5, "prompts_per_step": 32, "minibatches": 2},
    "lr-3e-5": {"learning_rate": 3e-5, "prompts_per_step": 32, "minibatches": 2},
    "lr-1e-5-four-minibatches": {"learning_rate": 1e-5, "prompts_per_step": 32, "minibatches": 4},
    "lr-1e-5-one-minibatch": {"learning_rate": 1e-5, "prompts_per_step": 32, "minibatches": 1},
    "lr-1e-5-8-prompts": {"learning_rate": 1e-5, "prompts_per_step": 8, "minibatches": 2},
}
STAGES = {"guided": 300, "exploratory": 100}


def prepare(run: Path, out: Path, recipe_name: str | None, heldout: int) -> None:
    """Write rows (prompts in token ids), tasks, vocabulary and the SFT model in bf16 pieces of under 50 MB."""
    import torch

    from tagpr.llm.models import load_causal_lm, load_tokenizer
    from tagpr.pipeline import Workspace
    from tagpr.recipe import load_recipe

    recipe = load_recipe(recipe_name or run.name)
    workspace = Workspace(recipe, run, Path.cwd())
    import pyarrow.parquet as parquet

    table = parquet.read_table(run / "chains" / "chains.parquet", columns=["task", "example_id"]).to_pylist()
    used = {(row["task"], row["example_id"]) for row in table}
    train_rows, heldout_rows = [], []
    for name, (task, train, official) in workspace.data.items():
        fresh = defaultdict(list)
        for example in train:
            if (name, example.id) not in used:
                fresh[example.user_id].append(example)
        users = sorted(user for user, examples in fresh.items() if len(examples) >= 2)
        random.Random(0).shuffle(users)
        extra = [example for user in users for example in fresh[user][:3]][: max(0, heldout - len(official))]
        held = {example.id for example in extra}
        for examples, rows in ((list(official) + extra, heldout_rows), (train, train_rows)):
            for example in examples:
                if rows is train_rows and example.id in held:
                    continue
                ids = workspace.prompts.ids(task, example)
                columns = {"task": name, "target": example.target, "user_id": example.user_id}
                rows.append({"prompt_ids": ids, **columns})
    write_jsonl(out / "train.jsonl", train_rows)
    write_jsonl(out / "heldout.jsonl", heldout_rows)
    write_json(out / "tasks.json", [task.model_dump(mode="json") for task, _, _ in workspace.data.values()])
    (out / "vocabulary.yaml").write_bytes((run / "chains" / "vocabulary.yaml").read_bytes())
    model = load_causal_lm(run / "sft" / "model", dtype="bfloat16", device="cpu")
    assert model.dtype == torch.bfloat16
    model.save_pretrained(out / "sft", max_shard_size="50MB")
    load_tokenizer(run / "sft" / "model").save_pretrained(out / "sft")
    users = {row["user_id"] for row in heldout_rows}
    print(f"{len(train_rows)} prompts to train on, {len(heldout_rows)} held out of {len(users)} people, in {out}")


def reward(prepared: Path, stage: str):
    """The stage's composite reward, without a PRMU."""
    from tagpr.chains.vocabulary import load_vocabulary
    from tagpr.rewards.composite import CompositeReward
    from tagpr.rewards.settings import RewardSettings
    from tagpr.tasks.types import Task

    tasks = {card["name"]: Task.model_validate(card) for card in read_json(prepared / "tasks.json")}
    vocabulary = load_vocabulary(prepared / "vocabulary.yaml")
    return CompositeReward(tasks, vocabulary, RewardSettings(gamma=0.0), stage=stage)


def train(prepared: Path, work: Path, name: str, minutes: float, steps: dict[str, int], common: dict) -> None:
    """Bring one setting forward until its time is up; leaves `done` files where a stage is complete."""
    from tagpr.training.gspo import train_gspo

    deadline = time.time() + 60 * minutes
    rows, heldout = read_jsonl(prepared / "train.jsonl"), read_jsonl(prepared / "heldout.jsonl")
    start = prepared / "sft"
    for stage, count in steps.items():
        out = work / name / stage
        out.mkdir(parents=True, exist_ok=True)
        settings = GSPOSettings(**common | SETTINGS[name] | {"steps": count})
        slowest = 0.0
        while not (out / "done").exists():
            begun = time.time()
            if begun + 1.3 * slowest > deadline:
                return
            figures = train_gspo(start, rows, reward(prepared, stage), settings, out, 0, None, heldout, stop_after=25)
            slowest = max(slowest, time.time() - begun)
            print(name, stage, figures["steps"], f"{time.time() - begun:.0f} s", flush=True)
            if figures["steps"] >= count:
                (out / "done").touch()
        start = out / "model"


def run(prepared: Path, work: Path, names: list[str], minutes: float, jobs: int, extra: list[str]) -> None:
    """All settings, `jobs` at a time, each in a process of its own."""
    deadline, waiting, running = time.time() + 60 * minutes, list(names), {}
    while waiting or running:
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    print(f"{name}: failed with {process.returncode}")
        while waiting and len(running) < jobs and time.time() < deadline - 60:
            name = waiting.pop(0)
            left = (deadline - time.time()) / 60
            arguments = ["train", str(prepared), str(work), "--settings", name, "--minutes", f"{left:.2f}", *extra]
            running[name] = subprocess.Popen([sys.executable, __file__, *arguments])
        if time.time() > deadline and waiting:
            break
        time.sleep(1)
    done = all((work / name / stage / "done").exists() for name in names for stage in STAGES)
    print("complete" if done else "not complete: run the same command again")


def interval(differences: list[float], users: list[str], seed: int = 0, draws: int = 4000) -> dict[str, float]:
    """Mean and 95% interval of paired differences; people are drawn, with all their questions."""
    by_user = defaultdict(list)
    for user, difference in zip(users, differences, strict=True):
        by_user[user].append(difference)
    groups, rng = [by_user[user] for user in sorted(by_user)], random.Random(seed)
    means = []
    for _ in range(draws):
        sample = [value for group in rng.choices(groups, k=len(groups)) for value in group]
        means.append(sum(sample) / len(sample))
    means.sort()
    mean = sum(differences) / len(differences)
    return {"mean": mean, "low": means[int(0.025 * draws)], "high": means[int(0.975 * draws)]}


def collect(prepared: Path, work: Path, names: list[str], device: str) -> None:
    """Curves and final-minus-SFT with intervals, per setting, stage and task."""
    from results_file import write_results

    rows = read_jsonl(prepared / "heldout.jsonl")
    tasks = sorted({row["task"] for row in rows})
    figures: dict = {"device": device, "heldout": {}, "settings": {}}
    for task in tasks:
        users = [row["user_id"] for row in rows if row["task"] == task]
        figures["heldout"][task] = {"questions": len(users), "people": len(set(users))}
    for name in names:
        entry: dict = {"settings": COMMON | SETTINGS[name]}
        first = work / name / "guided" / "heldout" / "step-00000.json"
        if not first.exists():
            continue
        sft = read_json(first)
        for stage in STAGES:
            looks = sorted((work / name / stage / "heldout").glob("step-*.json"))
            if not looks:
                continue
            block: dict = {"steps": int(looks[-1].stem.split("-")[1]), "tasks": {}}
            tables = [(int(path.stem.split("-")[1]), read_json(path)) for path in looks]
            for task in tasks:
                index = [i for i, row in enumerate(rows) if row["task"] == task]
                users = [rows[i]["user_id"] for i in index]
                curve = [
                    {"step": step}
                    | {k: sum(t[k][i] for i in index) / len(index) for k in ("verifiable", "format", "tag", "length")}
                    for step, t in tables
                ]
                last = tables[-1][1]
                gain = [last["verifiable"][i] - sft["verifiable"][i] for i in index]
                block["tasks"][task] = {"curve": curve, "gain_over_sft": interval(gain, users)}
            log = work / name / stage / "log.jsonl"
            if log.exists():
                keys = (
                    "step",
                    "reward",
                    "clip_fraction",
                    "zero_variance",
                    "length",
                    "truncated",
                    "tag_rate",
                    "entropy",
                )
                every = read_jsonl(log)[::10]
                block["training"] = [{k: round(row[k], 5) for k in keys if k in row} for row in every]
            entry[stage] = block
        figures["settings"][name] = entry
    print(json.dumps({n: {s: e[s]["tasks"] for s in STAGES if s in e} for n, e in figures["settings"].items()})[:3000])
    print(write_results("rl-long", "python benchmarks/rl_long.py run ... && ... collect", figures))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["prepare", "run", "train", "collect"])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--recipe")
    parser.add_argument("--heldout", type=int, default=450, help="held-out questions a task")
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--jobs", type=int, default=len(SETTINGS))
    parser.add_argument("--device", default="")
    parser.add_argument("--steps", default="", help="for trying out: guided,exploratory")
    parser.add_argument("--common", default="{}", help="for trying out: JSON merged into the common settings")
    options = parser.parse_args()
    names = options.settings.split(",")
    steps = dict(zip(STAGES, map(int, options.steps.split(",")), strict=True)) if options.steps else STAGES
    match options.verb:
        case "prepare":
            prepare(options.first, options.second, options.recipe, options.heldout)
        case "train":
            common = COMMON | json.loads(options.common)
            train(options.first, options.second, names[0], options.minutes, steps, common)
        case "run":
            extra = ["--steps", options.steps] if options.steps else []
            extra += ["--common", options.common]
            run(options.first, options.second, names, options.minutes, options.jobs, extra)
        case "collect":
            collect(options.first, options.second, names, options.device)


if __name__ == "__main__":
    main()
