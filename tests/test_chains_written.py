"""Rollouts from a file."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tagpr.chains.build import build_chains
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import read_parquet
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import DataError
from tagpr.tasks import Example, load_task

TASK = load_task("lamp-2")
TRAIN = {"lamp-2": [Example(str(i), f"u{i}", "lamp-2", "A film.", "comedy") for i in range(3)]}
CHAIN = "<think>\n" + "\n".join(f"<{tag}> step {tag} </{tag}>" for tag in load_vocabulary().names[:3]) + "\n</think>\n"


def build(folder: Path, rows, **settings):
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ChainSettings(teacher="written", written=path, **settings)
    funnel = build_chains(chosen, {"lamp-2": TASK}, TRAIN, lambda task, example: None, folder / "out", 0)
    return {step.step: step for step in funnel.steps}, read_parquet(folder / "out" / "chains.parquet")


def row(number, answer, **changes):
    return {"task": "lamp-2", "example_id": str(number), "completion": CHAIN + answer} | changes


def test_written_rollouts_pass_the_same_filters(tmp_path):
    rows = [row(0, "comedy"), row(0, "romance"), row(1, "romance"), row(1, "comedy"), row(7, "comedy")]
    steps, chains = build(tmp_path, rows, samples=1)
    assert steps["rollouts"].total == 2 and steps["rollouts"].notes == {"examples without a completion": 1}
    assert [(chain["example_id"], chain["answer"]) for chain in chains] == [("0", "comedy")]
    assert chains[0]["completion"] == CHAIN + "comedy"


def test_a_bad_row_is_named(tmp_path):
    with pytest.raises(DataError, match=r"rollouts.jsonl:2: needs task, example_id and completion"):
        build(tmp_path, [row(0, "comedy"), {"task": "lamp-2", "completion": "x"}])


def test_the_file_and_the_teacher_go_together():
    for values in ({"teacher": "written"}, {"written": "rollouts.jsonl"}):
        with pytest.raises(ValidationError, match="go together"):
            ChainSettings(**values)


def test_written_chains_may_use_tags_of_their_own(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("- {name: look, definition: Look.}\n- {name: weigh, definition: Weigh.}\n")
    chain = "<think>\n<look> a </look>\n<weigh> b </weigh>\n</think>\ncomedy"
    steps, chains = build(tmp_path, [row(0, "", completion=chain)], vocabulary=own, min_segments=2)
    assert [chain["tags"] for chain in chains] == [["look", "weigh"]] and steps["format_filter"].total == 1
    assert load_vocabulary(tmp_path / "out" / "vocabulary.yaml").names == ("look", "weigh")


def test_tags_that_no_chain_would_have_are_refused(tmp_path):
    for vocabulary in ("discover", tmp_path / "mine.yaml"):
        with pytest.raises(ValidationError, match="the heuristic teacher writes the paper's tags"):
            ChainSettings(vocabulary=vocabulary)
    with pytest.raises(ValidationError, match="written chains bring their tags"):
        ChainSettings(teacher="written", written=tmp_path / "rows.jsonl", vocabulary="discover")
