"""Code of the user's own: from files, modules and entry points, with one line where it cannot be had."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.errors import RecipeError, RunError
from tagpr.plugins import code_digest, is_own, load_own, offered
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.verifiable import find_verifiable
from tagpr.tasks import load_task
from tagpr.tasks.metrics import own_metric


def test_a_file_beside_the_recipe_is_loaded_once_and_again_when_it_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("calls = []\ncalls.append(1)\n\n\ndef score(): return 1\n")
    first = load_own("mine.py:score", "rewards", tmp_path)
    assert first is load_own("mine.py:score", "rewards", tmp_path)
    digest = code_digest("mine.py:score", "rewards", tmp_path)
    (tmp_path / "mine.py").write_text("def score(): return 2\n")
    second = load_own("mine.py:score", "rewards", tmp_path)
    assert second() == 2 and len({digest, code_digest("mine.py:score", "rewards", tmp_path), ""}) == 3


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "mine.py").write_text(f"def score(): return {number}\n")
    assert [load_own("mine.py:score", "rewards", tmp_path / str(n))() for n in (1, 2)] == [1, 2]


def test_a_module_and_an_entry_point_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_package.py").write_text("class Votes:\n    pass\n")
    about = tmp_path / "own_package-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1\n")
    points = "[tagpr.systems]\nvotes = own_package:Votes\ngone = own_package:Gone\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_own("own_package:Votes", "systems") is load_own("votes", "systems") is sys.modules["own_package"].Votes
    assert offered("systems") == ["gone", "votes"] and offered("readers") == []
    assert is_own("votes", "systems") and not is_own("votes", "rewards")
    with pytest.raises(RecipeError, match="systems: gone: its package does not import"):
        load_own("gone", "systems")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("none.py:score", r"metrics: none\.py:score: no file .*none\.py; give its path relative to the recipe"),
        ("bad.py:score", r"metrics: bad\.py:score: .*bad\.py does not import \(ZeroDivisionError: division by zero\)"),
        ("good.py:other", r"metrics: good\.py:other: good\.py defines no 'other'"),
        ("no_such_module:score", "module 'no_such_module' does not import"),
        ("score", "metrics: score: no installed package offers it"),
    ],
)
def test_what_cannot_be_had_is_one_line(spec: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "good.py").write_text("score = max\n")
    with pytest.raises(RecipeError, match=message) as caught:
        load_own(spec, "metrics", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["found = [1]\n", "from decimal import Decimal\n\nfound = Decimal(1)\n"])
def test_the_digest_is_that_of_the_file_whatever_is_found_in_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance, or something imported from elsewhere, does not know which file it was named in."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "digest_of_own.py"
    path.write_text(text)
    specs = ("digest_of_own:found", "digest_of_own.py:found")
    first = [code_digest(spec, "metrics", tmp_path) for spec in specs]
    path.write_text(text + "# edited\n")
    assert first[0] == first[1] != "" and code_digest(specs[0], "metrics") not in ("", first[0])
    path.unlink()
    assert [code_digest(spec, "metrics", tmp_path) for spec in specs] == ["", ""]


def test_what_is_no_file_has_no_digest() -> None:
    assert {
        code_digest(spec, "systems") for spec in ("rag", "no_such_module:Name", "no.such.module:Name", "sys:x")
    } == {""}


MISTAKES = {
    "1 / 0": r"mine.py:f raised ZeroDivisionError: division by zero .mine.py:2.",
    "None": r"mine.py:f gave 'None' .NoneType.; it must give a number",
    "'0.5'": r"mine.py:f gave '0.5' .str.; it must give a number",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_what_ones_own_score_does_wrong_is_one_line(tmp_path, given):
    code = f"def f(task, answer, target):\n    return {given}\n\n\nfrom tagpr.tasks.metrics import Metric\n\n"
    (tmp_path / "mine.py").write_text(f"{code}METRIC = Metric('odd-{len(given)}', True, f)\n")
    task = load_task("generic-text")
    reward = find_verifiable(RewardSettings(verifiable="mine.py:f"), tmp_path)
    with pytest.raises(RunError, match=MISTAKES[given]):
        reward(task, "a", "b")
    with pytest.raises(RunError, match=MISTAKES[given].replace(":f", ":METRIC")):
        own_metric(f"{tmp_path / 'mine.py'}:METRIC").of(task, "a", "b")


def test_two_metrics_of_one_name_in_one_recipe_are_refused(tmp_path):
    """The later would score the tasks of both."""
    sources = []
    for name in ("one", "two"):
        code = (
            "from tagpr.tasks.metrics import Metric\n\nM = Metric('closer', True, lambda task, answer, target: 1.0)\n"
        )
        (tmp_path / f"{name}.py").write_text(code)
        card = load_task("generic-text").model_dump(mode="json", exclude_defaults=True)
        card |= {"name": name, "metrics": [f"{name}.py:M"]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(card))
        sources.append(SourceSettings(task=f"{name}.yaml", path="mine.jsonl"))
    rows = [{"user_id": "a", "input": f"i{n}", "output": f"o{n}"} for n in range(4)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecipeError, match=r"one.py:M and .*two.py:M are both called 'closer'; rename one"):
        load_splits(DataSettings(sources=tuple(sources)), 0, tmp_path)
