"""Recipe and files unchanged <=> stage skipped: for every kind of file that some stage reads, and for random edits."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from own_card import METRIC, card_with
from tagpr.pipeline import STAGES, stages
from tagpr.pipeline.making import _work
from tagpr.progress import silent
from tagpr.runs import Run
from tagpr.runs.stage import run_stage

NAMES = tuple(stage.name for stage in STAGES if stage.name != "labels")  # which is made where a row asks for it
FILES = {
    "mine.jsonl": '{"user_id": "a", "input": "i", "output": "o"}\n',
    "card.yaml": card_with("own.py:length", "own_metrics_module:words"),
    "own.py": METRIC.format("length"),
    "own_metrics_module.py": METRIC.format("words"),
    "reader.py": "from helpers.text import strip\n\n\nclass Reader:\n    pass\n",
    "helpers/__init__.py": "",
    "helpers/text.py": "from reader_words import STOP\n\nstrip = str.strip\n",
    "reader_words.py": "STOP = ['the']\n",
    "templates/user.jinja": "{{ question }}\n",
    "vocabulary.yaml": "- {name: a, definition: b}\n",
    "chains.jsonl": '{"task": "mine", "example_id": "1", "completion": "c"}\n',
    "reward_words.py": "LIKED = ['good']\n",
    "reward.py": "import reward_words\n\n\ndef score(task, answer, target):\n    return 1.0\n",
    "policy/config.json": "{}\n",
    "policy/model.safetensors": "weights\n",
    "policy/chat_template.jinja": "{{ messages }}\n",
    "backbone/config.json": "{}\n",
    "taught/model.safetensors": "weights\n",
    "encoder/model.safetensors": "weights\n",
    "encoder/1_Pooling/config.json": "{}\n",
    "teacher/model.safetensors": "weights\n",
}
RECIPE = {
    "name": "mine",
    "model": "policy",
    "data": {"sources": [{"task": "card.yaml", "path": "mine.jsonl", "format": "reader.py:Reader"}]},
    "profile": {"retriever": "dense", "encoder": "encoder"},
    "prompt": {"templates": "templates"},
    "chains": {"teacher": "written", "written": "chains.jsonl", "vocabulary": "vocabulary.yaml"},
    "prmu": {"backbone": "backbone"},
    "rewards": {"verifiable": "reward.py:score"},
}
FIRST = {  # the first stage that reads each file; all after it have it among their inputs
    **dict.fromkeys(("mine.jsonl", "card.yaml", "own.py", "own_metrics_module.py", "reader.py"), "data"),
    **dict.fromkeys(("helpers/text.py", "reader_words.py"), "data"),  # what the user's own code imports
    **dict.fromkeys(("templates/user.jinja", "vocabulary.yaml", "chains.jsonl"), "chains"),
    **dict.fromkeys(("policy/config.json", "policy/model.safetensors", "policy/chat_template.jinja"), "chains"),
    **dict.fromkeys(("encoder/model.safetensors", "encoder/1_Pooling/config.json"), "chains"),
    "backbone/config.json": "prmu",
    **dict.fromkeys(("reward.py", "reward_words.py"), "guided"),
}


def project(folder: Path, **changes: object) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes))
    return path


def made(recipe: Path, *overrides: str) -> list[str]:
    """Go through every stage as a new `tagpr run` does, with nothing computed; the stages that were not skipped."""
    for name in ("own_metrics_module", "reward_words"):
        sys.modules.pop(name, None)
    run = Run.open(recipe, list(overrides), recipe.parent / "runs")
    works = [replace(_work(run, stage), make=lambda context: {}) for stage in stages(run)]
    return [work.stage for work in works if run_stage(run.folder.path, work, silent)[1]]


def since(name: str) -> list[str]:
    return list(NAMES[NAMES.index(name) :])


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return project(tmp_path)


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("edit", ["appended", "edited", "gone"])
def test_a_stage_is_made_again_exactly_if_a_file_it_reads_changed(recipe: Path, name: str, edit: str) -> None:
    path = recipe.parent / name
    before = path.read_text()
    assert made(recipe) == list(NAMES) and made(recipe) == []
    path.write_text(before)  # a new date is no new content
    assert made(recipe) == []
    if edit == "gone":
        path.unlink()
    else:
        path.write_text(before + "\n# more\n" if edit == "appended" else before[:-1] + " \n")
    again = made(recipe)
    assert again == since(FIRST[name])
    assert made(recipe) == []
    path.write_text(before)
    assert made(recipe) == since(FIRST[name])


def test_the_modules_of_a_package_count_together(recipe: Path, tmp_path: Path) -> None:
    package = tmp_path / "words_of_mine"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/other.py"):
        (package / name).write_text("")
    (package / "rewards.py").write_text("def score(task, answer, target):\n    return 1.0\n")
    swapped = ("rewards.verifiable=words_of_mine.rewards:score",)
    assert made(recipe, *swapped) == list(NAMES) and made(recipe, *swapped) == []
    (package / "inner" / "other.py").write_text("LIKED = 1\n")
    assert made(recipe, *swapped) == since("guided") and made(recipe, *swapped) == []


def test_what_no_stage_reads_and_where_the_project_lies_make_nothing_again(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(recipe)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "reward.py").touch()
    assert made(recipe) == []
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in list(tmp_path.iterdir()):
        if path.name != "moved":
            path.rename(moved / path.name)
    monkeypatch.syspath_prepend(moved)
    assert made(moved / "recipe.yaml") == []


def test_a_checkpoint_in_the_place_of_sft_and_its_tags_count(recipe: Path) -> None:
    swapped = ("sft.checkpoint=taught",)
    assert "chains" not in made(recipe, *swapped) and made(recipe, *swapped) == []
    for name in ("taught/model.safetensors", "vocabulary.yaml"):
        path = recipe.parent / name
        path.write_text(path.read_text() + "more\n")
        assert made(recipe, *swapped) == since("sft")
    (recipe.parent / "chains.jsonl").write_text("other\n")
    assert made(recipe, *swapped) == []


TEACHER = "{model: teacher, engine: transformers}"
MODELS = {  # overrides -> the folder that they make a stage read, and the first stage that does
    ("chains.teacher=heuristic", "chains.written=null", "chains.encoder=encoder"): ("encoder", "chains"),
    (
        *(f"chains.teacher={TEACHER}", f"chains.tagger={TEACHER}", "chains.written=null"),
        *("chains.vocabulary=discover", "chains.discovery.encoder=encoder"),
    ): ("encoder", "chains"),
    (f"chains.judge={TEACHER}",): ("teacher", "chains"),
    ("profile.retriever=memory", f"profile.memory.writer={TEACHER}"): ("teacher", "chains"),
    (f"judge={{judges: [{TEACHER}]}}",): ("teacher", "guided"),
}


@pytest.mark.parametrize("overrides", MODELS)
def test_models_in_folders_count_wherever_the_recipe_names_them(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    """The folders are named relative to the recipe, from anywhere."""
    (recipe.parent / "elsewhere").mkdir()
    monkeypatch.chdir(recipe.parent / "elsewhere")
    folder, first = MODELS[overrides]
    overrides = ("profile.retriever=recency", *overrides)
    assert made(recipe, *overrides) == list(NAMES) and made(recipe, *overrides) == []
    (recipe.parent / folder / "model.safetensors").write_text("other weights\n")
    assert made(recipe, *overrides) == since(first)
    assert made(recipe, *overrides) == []


def test_an_encoder_that_nothing_reads_and_the_name_at_an_endpoint_are_no_files(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)
    overrides = ("profile.retriever=recency", "chains.judge={model: teacher}")
    assert made(recipe, *overrides) == list(NAMES)
    assert Run.open(recipe, list(overrides)).recipe.chains.judge.model == "teacher"
    for folder in ("encoder", "teacher"):
        (recipe.parent / folder / "model.safetensors").write_text("other weights\n")
    assert made(recipe, *overrides) == []


SETTINGS = {
    "data.on_error=skip": "data",
    "sft.epochs=1": "sft",
    "guided.steps=3": "guided",
    "evaluate.limit=1": "evaluate",
}


@given(edits=st.lists(st.sampled_from([*FIRST, *SETTINGS, "nothing", "touch"]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_recipe_and_files_unchanged_iff_skipped(tmp_path_factory: pytest.TempPathFactory, edits: list[str]) -> None:
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        recipe, overrides = project(folder), set()
        assert made(recipe) == list(NAMES)
        for number, edit in enumerate(edits):
            first = FIRST.get(edit)
            if first:
                path = folder / edit
                path.write_text(f"{path.read_text()}# {number}\n")
            elif edit in SETTINGS and edit not in overrides:
                overrides.add(edit)
                first = SETTINGS[edit]
            elif edit == "touch":
                for name in FILES:
                    (folder / name).write_text((folder / name).read_text())
            assert made(recipe, *overrides) == (since(first) if first else [])
