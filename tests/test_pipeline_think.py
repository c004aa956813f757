"""Every stage on reasoning models: `<think>` as special tokens, written by the chat template or by the model."""

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import yaml

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.evaluation.predictions import read_predictions
from tagpr.pipeline import make
from tagpr.rewards.format import format_reward
from tagpr.runs import Run
from test_engine_think import CHAIN, build

RECIPE = {
    "name": "think",
    "data": {"sources": [{"task": "package-section", "path": "mine.jsonl", "format": "jsonl"}]},
    "profile": {"retriever": "bm25", "k": 1},
    "prompt": {"max_prompt_tokens": 240},
    "chains": {"teacher": "written", "written": "chains.jsonl", "min_segments": 1},
    "sft": {"learning_rate": 1e-2, "epochs": 80, "batch_size": 6, "warmup_ratio": 0.0},
    "rewards": {"gamma": 0.0, "min_tags": 1},
    "guided": {
        **{"learning_rate": 1e-6, "steps": 1, "prompts_per_step": 2, "group_size": 2, "minibatches": 1},
        **{"max_new_tokens": 64, "temperature": 0.1, "heldout_every": 1, "heldout_prompts": 1},
    },
    "exploratory": {
        **{"learning_rate": 1e-6, "steps": 1, "prompts_per_step": 2, "group_size": 2, "minibatches": 1},
        **{"max_new_tokens": 64, "temperature": 0.1},
    },
    "evaluate": {"max_new_tokens": 64, "resamples": 100, "other_history": False},
}


def project(folder: Path) -> Path:
    """Two users whose answer is always `net`, and one written chain for each of their items."""
    rows = [{"user_id": u, "input": f"tool {i} of {u}", "output": "net"} for u in "ab" for i in range(4)]
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "chains.jsonl").write_text("")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE | {"model": "model"}))
    return folder / "recipe.yaml"


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("qwen3-thinking", "special"),
        pytest.param("plain", "special", marks=pytest.mark.slow),
        pytest.param("deepseek-r1", "special", marks=pytest.mark.slow),
        pytest.param("plain", "plain", marks=pytest.mark.slow),
    ],
)
def test_chains_sft_rl_and_evaluation_agree(tmp_path: Path, template: str, kind: str) -> None:
    build(tmp_path / "model", template, kind)
    recipe = project(tmp_path)
    run = Run.open(recipe, runs=tmp_path / "runs")
    make(run, "data")
    chains = [
        {"task": name, "example_id": example.id, "completion": CHAIN}
        for name, train in run.train.items()
        for example in train
    ]
    assert len(chains) == 6
    (tmp_path / "chains.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chains))
    make(run, "chains", "sft", "guided", "exploratory", "evaluate")
    rates = json.loads((run.folder.path / "evaluate" / "results.json").read_text())["tasks"]["package-section"]
    points = {system: scores["points"] for system, scores in rates["systems"].items()}
    assert [points[system]["format_rate"] for system in ("sft", "guided", "final")] == [1.0] * 3
    assert points["base"]["format_rate"] == 0
    vocabulary, verdicts = load_vocabulary(), {}
    for system in ("base", "sft", "guided", "final"):
        for row in read_predictions(run.folder.path / "evaluate" / "predictions" / system / "package-section.jsonl"):
            assert row.completion.count("<think>") == 1 or system == "base"
            verdicts[row.completion] = row.format_ok
    assert verdicts[CHAIN] is True
    for stage in ("guided", "exploratory"):
        samples = parquet.read_table(run.folder.path / stage / "samples.parquet").to_pylist()
        assert len(samples) == 4 and any(row["completion"] == CHAIN for row in samples)
        for row in samples:
            response = parse_response(row["completion"], vocabulary)
            assert row["r_f"] == format_reward(response)
            assert verdicts.get(row["completion"], response.well_formed) == response.well_formed
            assert not response.well_formed or row["r_f"] == 1.0


@pytest.mark.parametrize(
    "text",
    [
        CHAIN,
        "<think>\n<make_decision></make_decision>\n</think>\nnet",
        "<think>\n\n</think>\nnet",
        "Sure. " + CHAIN,
        CHAIN.removesuffix("net"),
        "<think>" + CHAIN,
        "net",
        "",
    ],
)
def test_what_evaluation_calls_well_formed_is_paid(text: str) -> None:
    response = parse_response(text, load_vocabulary())
    assert format_reward(response) == 1.0 or not response.well_formed
    assert (format_reward(response) == 1.0) is (text == CHAIN)
