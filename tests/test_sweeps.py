"""`tagpr analyse`, `sweep` and `eval` on a run folder with real tiny models; wrong arguments give one clear line."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from fake_run import build_fake_run
from tagpr.errors import RecipeError, RunError
from tagpr.files import read_json
from tagpr.sweeps import analyse, parse_weights, profile_length, whole_numbers

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from tagpr.llm.tiny import build_tiny_model

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
    recipe, folder = str(runs / "demo.yaml"), runs / "runs"
    page = analyse(recipe, runs=folder, quiet=True)
    assert page == folder / "demo" / "analyses" / "index.html" and page.is_file()
    profile_length(recipe, runs=folder, lengths=(0, 2), systems=("base", "final"), quiet=True)
    found = read_json(folder / "demo" / "analyses" / "analyses.json")
    assert set(found) == {"practitioner", "profile_length"}
    assert list(found["profile_length"]["package-section"]) == ["0", "2"]
    assert "Analyses" in page.read_text(encoding="utf-8")
    assert (page.parent / "figures" / "sweep-profile-length-package-section.svg").is_file()


def test_eval_scores_any_checkpoint_from_the_data_alone(runs, tmp_path):
    from tagpr.cli import app

    shutil.copytree(runs / "runs" / "demo" / "data", tmp_path / "demo" / "data")
    arguments = ["eval", str(runs / "demo.yaml"), "--model", str(runs / "tiny"), "--runs", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    block = json.loads(result.stdout)["tasks"]["package-section"]
    assert block["n"] == 3 and set(block["systems"]) == {"base", "checkpoint"}
    assert block["difference_to_base"]["checkpoint"]["accuracy"]["mean"] == 0  # the same weights


def test_wrong_arguments_are_one_line(runs, tmp_path):
    recipe = str(runs / "demo.yaml")
    with pytest.raises(RecipeError, match="unknown system 'best'; known: base, sft, guided, final"):
        profile_length(recipe, runs=runs / "runs", systems=("best",))
    with pytest.raises(RunError, match="stage 'data' has not been run"):
        analyse(recipe, runs=tmp_path)
    with pytest.raises(RecipeError, match="whole numbers"):
        whole_numbers("2,x")
    with pytest.raises(RecipeError, match="three numbers"):
        parse_weights(["1,2"])
    assert len(parse_weights(None)) == 6 and whole_numbers("2,4") == [2, 4]
