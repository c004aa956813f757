"""`tagpr analyse`, `sweep` and `eval` on a run folder with real tiny models; wrong arguments give one clear line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from fake_run import build_fake_run
from tagpr.cli.parsing import parse_shard, parse_weights, whole_numbers
from tagpr.errors import RecipeError, RunError
from tagpr.evaluation.analyses import Analyses
from tagpr.evaluation.predictions import read_predictions, write_predictions
from tagpr.experiments.analyse import analyse
from tagpr.experiments.interview import Interview
from tagpr.experiments.robustness import profile_length
from tagpr.experiments.scores import evaluate_checkpoint
from tagpr.experiments.sensitivity import REWARD_WEIGHTS
from tagpr.files import read_json
from tagpr.runs import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from tagpr.engine.tiny import build_tiny_model

    folder = tmp_path_factory.mktemp("sweeps")
    run = build_fake_run(folder / "runs" / "demo", users=4)
    shutil.rmtree(run / "analyses")
    model = build_tiny_model(folder / "tiny")
    for stage in ("sft", "exploratory"):
        shutil.copytree(model, run / stage / "model")
    recipe = {
        "name": "demo",
        "model": str(model),
        "data": {},
        "profile": {"k": 2},
        "evaluate": {"max_new_tokens": 4, "resamples": 100, "limit": 3},
    }
    (folder / "demo.yaml").write_text(json.dumps(recipe))
    return folder


def test_analyse_and_sweep_add_to_the_analyses(runs):
    folder = runs / "runs"
    run = Run.open(runs / "demo.yaml", runs=folder)
    page = analyse(run)
    assert page == folder / "demo" / "analyses" / "index.html" and page.is_file()
    profile_length(run, (0, 2), ("base", "final"))
    found = Analyses.read(folder / "demo" / "analyses" / "analyses.json")
    assert set(found.practitioner) == {"package-section", "package-synopsis"} and found.retriever == {}
    assert list(found.profile_length) == ["0", "2"]
    assert "Analyses" in page.read_text(encoding="utf-8")
    assert (page.parent / "charts" / "sweep-profile-length-package-section.svg").is_file()


def test_eval_scores_any_checkpoint_from_the_data_alone(runs, tmp_path):
    from tagpr.cli import app

    shutil.copytree(runs / "runs" / "demo" / "data", tmp_path / "demo" / "data")
    arguments = ["eval", str(runs / "demo.yaml"), "--model", str(runs / "tiny"), "--runs", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    block = json.loads(result.stdout)["tasks"]["package-section"]
    assert block["n"] == 3 and set(block["systems"]) == {"base", "checkpoint"}
    assert block["differences"]["base"]["checkpoint"]["accuracy"]["mean"] == 0  # the same weights


def test_shards_share_the_questions_and_the_last_one_scores(runs, tmp_path):
    def evaluate(folder, shard):
        if not folder.exists():
            shutil.copytree(runs / "runs" / "demo" / "data", folder / "demo" / "data")
        run = Run.open(runs / "demo.yaml", ["evaluate.chunk=1"], folder)
        return evaluate_checkpoint(run, str(runs / "tiny"), parse_shard(shard))

    assert evaluate(tmp_path / "two", "2/2") is None
    assert evaluate(tmp_path / "two", "1/2") == evaluate(tmp_path / "one", "1/1")
    assert not list((tmp_path / "two").rglob("*.parts"))
    for wrong in ("2", "0/2", "3/2", "a/b"):
        with pytest.raises(RecipeError, match="PART/PARTS"):
            parse_shard(wrong)


def test_a_question_is_answered_once(runs, tmp_path, monkeypatch):
    """Conditions that put the same prompt, and what the evaluate stage answered already, cost nothing."""
    from tagpr.evaluation import evaluate_systems
    from tagpr.systems.backbone import Backbone

    shutil.copytree(runs / "runs" / "demo" / "data", tmp_path / "demo" / "data")
    run, models = Run.open(runs / "demo.yaml", runs=tmp_path), {"final": runs / "tiny"}
    settings = run.recipe.evaluate.model_copy(update={"other_history": False})
    evaluate_systems(models, run.data, replace(run.context(), folder=run.folder.stage("evaluate")), settings)
    asked = []
    write = Backbone.write
    monkeypatch.setattr(
        Backbone,
        "write",
        lambda self, prompts, *how, **more: asked.extend(prompts) or write(self, prompts, *how, **more),
    )

    def swept(*lengths):
        profiles = {str(k): run.recipe.profile.model_copy(update={"k": k}) for k in lengths}
        return Interview(run, models).sweep("length", profiles)

    found = swept(1, 2, 3)  # k=2 is the recipe's own
    assert [list(results.tasks["package-section"].systems) for results in found.values()] == [["final"]] * 3
    assert list(found) == ["1", "2", "3"] and len(asked) == 2 * 2 * 3  # lengths x tasks x questions
    assert swept(1, 2, 3) == found and len(asked) == 12
    swept(0, 1, 2, 3)  # one length more: only that one is asked
    assert len(asked) == 12 + 2 * 3


def test_a_kept_answer_is_checked_anew(runs, tmp_path):
    """Its claims are counted by today's rules, not taken from the file."""
    shutil.copytree(runs / "runs" / "demo" / "data", tmp_path / "demo" / "data")
    run, name = Run.open(runs / "demo.yaml", runs=tmp_path), "package-section"

    def answered():
        interview = Interview(run, {"final": runs / "tiny"})
        questions = interview.questions("final", name, interview.heldout(name))
        return interview.answers("again", "final", name, {"own": questions})["own"]

    first = answered()
    (path,) = (run.folder.analyses / "answers" / "final").glob("*.jsonl")
    kept = read_predictions(path)
    stale = [replace(row, claims=9, true_claims=7, cuts={"x": {"title": 1}}, correctness=0.5) for row in kept]
    write_predictions(path, stale)
    assert answered() == first and read_predictions(path) == stale  # asked nothing, believed nothing


def test_wrong_arguments_are_one_line(runs, tmp_path):
    with pytest.raises(RecipeError, match="unknown system 'best'; known: base, labels, sft, guided, final"):
        profile_length(Run.open(runs / "demo.yaml", runs=runs / "runs"), systems=("best",))
    with pytest.raises(RunError, match="stage 'data' has not been run"):
        analyse(Run.open(runs / "demo.yaml", runs=tmp_path))
    with pytest.raises(RecipeError, match="whole numbers"):
        whole_numbers("2,x")
    with pytest.raises(RecipeError, match="three numbers"):
        parse_weights(["1,2"])
    assert parse_weights(None) == [] and len(REWARD_WEIGHTS) == 6 and whole_numbers("2,4") == [2, 4]


@pytest.mark.slow
def test_reward_settings_are_trained_side_by_side(tmp_path):
    def tagpr(*arguments):
        command = [sys.executable, "-m", "tagpr.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)

    assert tagpr("run", "smoke", "--quiet").returncode == 0
    weights = ["--weights", "0.8,0.8,0.2", "--weights", "1,0,0"]
    done = tagpr("sweep", "rewards", "smoke", "--processes", "2", *weights)
    assert done.returncode == 0, done.stderr
    found = Analyses.read(tmp_path / "runs/smoke/analyses/analyses.json").rewards
    assert list(found) == ["0.8, 0.8, 0.2", "1, 0, 0"]
    tasks = [task for results in found.values() for task in results.tasks.values()]
    assert len(tasks) == 4 and all("final" in task.systems and "base" not in task.systems for task in tasks)
    settings = [
        read_json(tmp_path / f"runs/smoke-rewards-{name}/guided/manifest.json")["settings"]["rewards"]
        for name in ("0.8-0.8-0.2", "1-0-0")
    ]
    assert [(s["alpha"], s["beta"], s["gamma"]) for s in settings] == [(0.8, 0.8, 0.2), (1.0, 0.0, 0.0)]
    first, second = (tmp_path / f"runs/smoke-rewards-{name}/sft/log.jsonl" for name in ("0.8-0.8-0.2", "1-0-0"))
    assert first.samefile(second)  # the stages before RL are shared
    assert (tmp_path / "runs/smoke/analyses/charts/rewards-package-section.svg").is_file()
