"""Generalisation (tables 2, 3, 7): sources that are only tested on, one download folder, RL from another run's SFT."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tagpr.data import load_splits
from tagpr.data.settings import DataSettings
from tagpr.errors import RecipeError
from tagpr.pipeline import stages as stages_of
from tagpr.recipe import bundled_recipes, load_recipe
from tagpr.runs import Run


def _reviews(path: Path, words: str) -> None:
    """A PGraphRAG file of twenty invented users with three reviews each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {
            "id": f"{words}-{user}",
            "profile": [
                {
                    "rating": 5,
                    "title": f"{words} title {user} {i}",
                    "text": f"{words} review {user} {i}",
                    "pid": f"p{i}",
                }
                for i in range(3)
            ],
        }
        for user in range(20)
    ]
    path.write_text(json.dumps(records))


def test_zero_shot_sources_are_all_held_out(tmp_path):
    _reviews(tmp_path / "english.json", "good")
    _reviews(tmp_path / "portuguese.json", "bom")
    review = {"task": "pgraphrag-title", "format": "pgraphrag"}
    settings = DataSettings(
        folder=str(tmp_path),
        sources=(
            {"task": "package-section", "max_train": 5, "max_heldout": 5},
            {**review, "name": "english", "path": "english.json", "zero_shot": True},
            {**review, "name": "portuguese", "path": "portuguese.json", "zero_shot": True, "max_heldout": 7},
        ),
    )
    splits = load_splits(settings, 0, Path("/nowhere"))
    assert list(splits) == ["package-section", "english", "portuguese"]
    assert [(len(s.train), len(s.heldout)) for s in splits.values()] == [(5, 5), (0, 20), (0, 7)]
    assert {example.task for example in splits["english"].heldout} == {"english"}
    assert splits["portuguese"].task.metrics == splits["english"].task.metrics


def test_one_card_twice_needs_names(tmp_path):
    source = {"task": "package-section", "max_train": 5, "max_heldout": 5}
    with pytest.raises(RecipeError, match="duplicate task"):
        load_splits(DataSettings(sources=(source, source)), 0, tmp_path)
    assert list(load_splits(DataSettings(sources=(source, {**source, "name": "again"})), 0, tmp_path)) == [
        "package-section",
        "again",
    ]


def test_a_checkpoint_takes_the_place_of_chains_and_sft(tmp_path):
    def stages(*overrides):
        run = Run.open("smoke", overrides, tmp_path)
        return {stage.name: (stage, stage.reads(run)) for stage in stages_of(run)}

    other = tmp_path / "other" / "sft" / "model"
    usual, transfer = stages(), stages(f"sft.checkpoint={other}")
    assert set(usual) - set(transfer) == {"chains"}
    assert transfer["sft"][0].inputs == ("data",) and "chains" not in transfer["report"][0].inputs
    other.mkdir(parents=True)
    (other / "model.safetensors").write_bytes(b"weights")
    again = stages(f"sft.checkpoint={other}")
    assert again["sft"][1] != transfer["sft"][1]  # other weights: taken again


def test_transfer_recipes_are_bundled():
    assert {"transfer-bundled", "transfer-rl", "transfer-titles"} <= set(bundled_recipes())
    titles, rl = load_recipe("transfer-titles"), load_recipe("transfer-rl")
    assert [source.zero_shot for source in titles.data.sources] == [False, True, True]
    assert rl.sft.checkpoint == f"runs/{titles.name}/sft/model" and titles.prompt == rl.prompt


@pytest.mark.slow
def test_transfer_runs_end_to_end(tmp_path):
    few = "max_train: 60, max_heldout: 12"
    sources = {
        "zs": f"[{{task: package-section, {few}}}, {{task: package-synopsis, zero_shot: true, max_heldout: 12}}]",
        "rl": f"[{{task: package-synopsis, {few}}}]",
    }
    more = {"zs": [], "rl": ["sft.checkpoint=runs/zs/sft/model"]}
    for name in ("zs", "rl"):
        command = [sys.executable, "-m", "tagpr.cli", "run", "smoke", "-q", f"name={name}"]
        command += [f"data.sources={sources[name]}", *more[name]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
    tasks = json.loads((tmp_path / "runs/zs/evaluate/results.json").read_text())["tasks"]
    assert list(tasks) == ["package-section", "package-synopsis"] and tasks["package-synopsis"]["n"] == 12
    trained = {json.loads(line)["task"] for line in (tmp_path / "runs/zs/data/package-section/train.jsonl").open()}
    assert trained == {"package-section"} and not (tmp_path / "runs/zs/data/package-synopsis/train.jsonl").read_text()
    a, b = (tmp_path / f"runs/{name}/sft/model/model.safetensors" for name in ("zs", "rl"))
    assert a.samefile(b) or a.read_bytes() == b.read_bytes()
    assert not (tmp_path / "runs/rl/chains").exists()
    shutil.rmtree(tmp_path / "runs")
