"""Files of a finished run that were cut off or deleted: one line that names the file and a fix that mends it."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_run import trained_run  # noqa: F401
from tagpr.chains.dataset import read_chains
from tagpr.chains.steps import Funnel
from tagpr.cli import app
from tagpr.clients.cache import default_cache
from tagpr.engine.checkpoint_files import check_weights
from tagpr.engine.models import load_causal_lm
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import DataError, ModelError, RunError, TagPRError
from tagpr.evaluation.results import Results
from tagpr.files import read_json, write_json
from tagpr.prmu.score import PRMU
from tagpr.serve.forget import forget
from tagpr.serve.served_run import ServedRun
from tagpr.stages import made_again
from tagpr.tasks.cards import read_tasks
from tagpr.training.scale.loading import load_for_training
from tagpr.training.settings import SFTSettings

TASK = "package-section"


@pytest.fixture
def run(trained_run, tmp_path) -> Path:  # noqa: F811
    """A copy by value: what is cut here is nobody else's."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def heldout_user(run: Path) -> str:
    with open(run / "data" / TASK / "heldout.jsonl", encoding="utf-8") as lines:
        return json.loads(next(lines))["user_id"]


def message(*arguments: str) -> str:
    """What a command ends with: an error of ours, in one line."""
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, TagPRError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("evaluate/predictions/sft/package-section.jsonl", "delete it, or delete {run}/evaluate and run again"),
        ("chains/chains.parquet", "delete it, or delete {run}/chains and run again"),
        ("prmu/model/users.json", "; delete {run}/prmu and run again"),
        ("prmu/model/model.safetensors", "; delete {run}/prmu and run again"),
        ("evaluate/results.json", "delete it, or delete {run}/evaluate and run again"),
        ("analyses/notes.jsonl", "; delete it"),
    ],
)
def test_forget_reads_all_before_it_changes_anything(run, name, fix):
    path = run / name
    if not path.exists():
        path.parent.mkdir()
        path.write_text('{"a": "cut"}\n')
    user = heldout_user(run)
    cut(path)
    before = contents(run)
    for _ in range(2):
        said = message("forget", user, str(run))
        assert path.name in said and said.endswith(fix.format(run=run))
        assert contents(run) == before
    shutil.rmtree(run / name.split("/")[0]) if "model" in name else path.unlink()
    assert forget(run, user).removals


def test_forget_opens_the_caches_before_it_changes_anything(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TAGPR_CACHE", str(tmp_path))
    default_cache().write_text("no database")
    before = contents(run)
    assert "not a usable cache file" in message("forget", heldout_user(run), str(run))
    assert contents(run) == before


def test_cut_weights_are_one_line_wherever_they_are_loaded(run, tmp_path):
    folder = run / "exploratory" / "model"
    cut(folder / "model.safetensors")
    for load in (
        lambda: load_causal_lm(folder),
        lambda: load_for_training(folder, SFTSettings(), 0),
        lambda: ServedRun.open(run).checkpoint("final"),
    ):
        with pytest.raises(ModelError, match=r"model'?: its weights are damaged \(model\.safetensors: ") as found:
            load()
        assert str(found.value).endswith(f"; delete {run / 'exploratory'} and run again")
    assert "weights are damaged" in message("ask", str(run), heldout_user(run), "sound mixer", "--task", TASK)
    assert "weights are damaged" in message("export", str(run), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert ServedRun.open(run).checkpoint("sft").is_dir()


def test_cut_weights_outside_a_run_are_not_to_be_deleted(tmp_path):
    build_tiny_model(tmp_path / "tiny")
    check_weights(tmp_path / "tiny")
    for size in (1000, 4, 0):
        os.truncate(tmp_path / "tiny" / "model.safetensors", size)
        with pytest.raises(ModelError, match=r"; save or download it again$"):
            check_weights(tmp_path / "tiny")


def test_a_damaged_reward_model_says_which_folder_to_delete(run):
    cut(run / "prmu" / "model" / "model.safetensors")
    with pytest.raises(ModelError) as found:
        PRMU.from_pretrained(run / "prmu" / "model")
    assert str(found.value).endswith(f"; delete {run / 'prmu'} and run again")


@pytest.mark.parametrize("lose", [cut, Path.unlink])
def test_lost_task_cards_are_one_line_for_every_command(run, lose, tmp_path):
    path = run / "data" / "tasks.json"
    lose(path)
    for command in (
        ("ask", str(run), "nobody", "sound mixer"),
        ("export", str(run), str(tmp_path / "out")),
        ("serve", str(run)),
        ("forget", "nobody", str(run)),
    ):
        said = message(*command)
        assert said.startswith(f"{path}: ") and said.endswith(f"; delete {run / 'data'} and run again")
    with pytest.raises(DataError, match=r"tasks\.json"):
        read_tasks(path)


@pytest.mark.parametrize("content", ["5", '["card"]', '[{"name": 5}]', "\xff"])
def test_task_cards_of_another_shape_are_one_line(tmp_path, content):
    (tmp_path / "tasks.json").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=r"tasks\.json: damaged \(.*\); delete .*tasks\.json and run again$"):
        read_tasks(tmp_path / "tasks.json")


def test_the_named_fix_is_the_stages_folder(run):
    cut(run / "chains" / "chains.parquet")
    with pytest.raises(DataError) as found:
        read_chains(run / "chains")
    assert str(found.value).endswith(f"; delete {run / 'chains'} and run again")
    cut(run / "evaluate" / "results.json")
    with pytest.raises(RunError, match=f"; delete {run / 'evaluate'} and run again$"):
        Results.read(run / "evaluate" / "results.json")


def test_a_folder_that_is_no_stage_is_never_to_be_deleted(tmp_path):
    write_json(tmp_path / "manifest.json", {})
    path = tmp_path / "chains" / "chains.parquet"
    assert made_again(path) == f"delete {path} and run again"
    write_json(tmp_path / "chains" / "manifest.json", {})
    assert made_again(path, "else") == f"delete {tmp_path / 'chains'} and run again"


def test_chains_commands_take_a_run_folder_too(run, tmp_path):
    own, whole = (CliRunner().invoke(app, ["chains", "stats", str(f)]) for f in (run / "chains", run))
    assert whole.exit_code == 0 and whole.stdout == own.stdout
    assert CliRunner().invoke(app, ["chains", "review", str(run), "--page-only"]).exit_code == 0
    assert (run / "chains" / "review.html").is_file()
    said = message("chains", "stats", str(tmp_path))
    assert said.endswith("; give a run's folder or its chains folder") and "Error" not in said
    path = run / "chains" / "funnel.json"
    kept = read_json(path)
    for content in ({}, {"steps": [{"step": "a"}]}):
        write_json(path, content)
        said = message("chains", "stats", str(run))
        assert said.endswith(f"; delete {run / 'chains'} and run again") and "Error" not in said
    write_json(path, kept)
    assert Funnel.read(path).steps
