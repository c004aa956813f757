"""Recipe and files unchanged, the data stage is skipped; anything it reads changed, it is made again."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from own_card import METRIC, card_with
from tagpr.cli import app

READER = """\
import json


class Reader:
    name, says = "own", "one interaction per line"

    def guess(self, path):
        return 0.0

    def read(self, path, source):
        lines = path.read_text().splitlines()
        return source.items(((n, json.loads(line)) for n, line in enumerate(lines, 1)), path)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe beside its data, card, metric and reader."""
    rows = [{"user_id": u, "input": f"text {i} {u}", "output": f"title {i}"} for u in "ab" for i in range(4)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "card.yaml").write_text(card_with("own.py:length"))
    (tmp_path / "own.py").write_text(METRIC.format("length"))
    (tmp_path / "reader.py").write_text(READER)
    source = {"task": "card.yaml", "path": "mine.jsonl", "format": "reader.py:Reader"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "model": "random:tiny", "data": {"sources": [source]}}))
    return path


def made(recipe: Path, *overrides: str) -> tuple[str, int]:
    """Run the data stage; its hash, and when its files were written."""
    runs = recipe.parent / "runs"
    result = CliRunner().invoke(app, ["data", str(recipe), *overrides, "--runs", str(runs), "--quiet"])
    assert not result.exit_code, result.output or result.exception
    manifest = runs / "mine" / "data" / "manifest.json"
    return json.loads(manifest.read_text())["hash"], manifest.stat().st_mtime_ns


APPENDED = {
    "mine.jsonl": '{"user_id": "a", "input": "text 5", "output": "title 5"}\n',
    "card.yaml": "correct_from: 0.4\n",
    "own.py": "# edited\n",
    "reader.py": "# edited\n",
}


@pytest.mark.parametrize("name", APPENDED)
def test_the_stage_is_made_again_exactly_if_what_it_reads_changed(recipe, name):
    first = made(recipe)
    assert made(recipe) == first
    path = recipe.parent / name
    before = path.read_text()
    path.write_text(before)  # a new date is no new content
    assert made(recipe) == first
    path.write_text(before + APPENDED[name])
    edited = made(recipe)
    assert edited[0] != first[0] and edited[1] != first[1]
    assert made(recipe) == edited
    path.write_text(before)
    assert made(recipe)[0] == first[0]


def test_a_setting_counts_and_a_moved_folder_does_not(recipe, tmp_path):
    first = made(recipe)
    assert made(recipe, "data.on_error=skip")[0] != first[0]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in [*tmp_path.glob("*.*")]:
        if path.is_file():
            path.rename(moved / path.name)
    assert made(moved / "recipe.yaml")[0] == first[0]


def test_lamps_outputs_and_held_out_files_count(recipe):
    folder = recipe.parent
    text = "Generate a headline for the following article: words"
    for split in ("train", "dev"):
        records = [
            {"id": f"{i}", "input": f"{text} {split} {i}", "profile": [{"id": "0", "text": "t", "title": "h"}]}
            for i in range(3)
        ]
        golds = {"task": "LaMP_4", "golds": [{"id": f"{i}", "output": "gold"} for i in range(3)]}
        (folder / f"{split}_questions.json").write_text(json.dumps(records))
        (folder / f"{split}_outputs.json").write_text(json.dumps(golds))
    source = {"task": "lamp-4", "path": ".", "heldout_path": ".", "format": "lamp"}
    recipe.write_text(yaml.safe_dump({"name": "mine", "model": "random:tiny", "data": {"sources": [source]}}))
    seen = [made(recipe)[0]]
    for name in ("train_outputs.json", "dev_outputs.json", "dev_questions.json"):
        path = folder / name
        path.write_text(path.read_text() + " \n")
        seen.append(made(recipe)[0])
    assert len(set(seen)) == 4
