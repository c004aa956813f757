"""CONTRIBUTING's task, metric, reward, reader, system and engine, taken from the page, work in one recipe."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.engine.types import Sampling, TextModel
from tagpr.evaluation.results import Results
from tagpr.plugins import load_own
from tagpr.recipe import load_recipe
from tagpr.rewards.verifiable import find_verifiable
from tagpr.tasks import load_task

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"
FILES = re.compile(r"^```\w+\n# file: (\S+)\n(.*?)^```", re.M | re.S)
SONGS = [f"user{u}|song {u} {n}|{('calm', 'loud')[(u + n) % 2]}" for u in range(6) for n in range(5)]
RECIPE = """
name: songs
model: random:tiny
data: {sources: [{task: mood.yaml, path: songs.mine, format: "readers.py:Songs"}]}
profile: {retriever: recency, k: 3}
prompt: {max_prompt_tokens: 480}
rewards: {verifiable: "rewards.py:first_letter_reward"}
evaluate: {max_new_tokens: 8, resamples: 200}
systems: [majority, {system: "systems.py:Parrot"}]
"""


@pytest.fixture
def folder(tmp_path):
    """The page's files beside a recipe that names them all."""
    found = FILES.findall(PAGE.read_text(encoding="utf-8"))
    assert [name for name, _ in found] == [
        "mood.yaml",
        "metrics.py",
        "rewards.py",
        "readers.py",
        "systems.py",
        "engine.py",
    ]
    for name, text in found:
        text = text.replace("metrics: [accuracy, f1]", 'metrics: [accuracy, "metrics.py:FIRST_LETTER"]')
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "songs.mine").write_text("\n".join(SONGS) + "\n", encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def test_the_pages_parts_make_a_comparison(folder):
    done = CliRunner().invoke(app, ["compare", str(folder / "recipe.yaml"), "--runs", str(folder / "runs"), "--quiet"])
    assert done.exit_code == 0, done.output
    block = Results.read(folder / "runs" / "songs" / "compare" / "results.json").tasks["mood"]
    assert block.n == 6
    parrot = next(name for name in block.systems if "Parrot" in name)
    points = block.systems[parrot].points
    assert points["first-letter"] == points["accuracy"]  # calm and loud differ in their first letter


def test_the_pages_reward_is_r_v(folder):
    recipe = load_recipe(str(folder / "recipe.yaml"))
    reward = find_verifiable(recipe.rewards, folder)
    task = load_task(folder / "mood.yaml")
    assert [reward(task, answer, "calm") for answer in ("calm", "cold", "loud")] == [1.0, 0.5, 0.0]


def test_the_pages_engine_is_a_text_model(folder):
    engine: TextModel = load_own("engine.py:Shout", "engines", folder)()
    chats = [[{"role": "user", "content": text}] for text in ("one", "two")]
    rows = engine.generate(chats, Sampling(max_new_tokens=4, num_samples=2))
    assert [[completion.text for completion in row] for row in rows] == [["ONE", "ONE"], ["TWO", "TWO"]]
