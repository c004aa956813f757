"""Expert iteration: what is kept is right, finished and accepted, so many per prompt; a killed round goes on."""

import json

import pytest
import torch
from safetensors.torch import load_file

from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RunError
from tagpr.progress import StageContext
from tagpr.training.expert import expert_iteration
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import ExpertSettings, SFTSettings

SFT = SFTSettings(learning_rate=1e-3, epochs=1, batch_size=4, precision="fp32")
SETTINGS = ExpertSettings(samples=12, max_new_tokens=200, keep_per_prompt=2, sft=SFT)


class HasE:
    """R_v: an 'e' in the text; counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def components(self, completions, **_):
        self.calls += 1
        return [{"reward": 2.0, "verifiable": float("e" in text)} for text in completions]


def rows(n=40):
    draw = torch.Generator().manual_seed(0)
    return [
        TrainingRow(torch.randint(3, 300, (6,), generator=draw).tolist(), example_id=f"e{i}", user_id=f"u{i}")
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def kept(out):
    return [json.loads(line) for line in (out / "kept.jsonl").read_text().splitlines()]


def test_only_right_and_accepted_completions_are_learned_from(policy, tmp_path):
    reward = HasE()
    metrics = expert_iteration(
        policy, rows(), reward, SETTINGS, StageContext(tmp_path), accept=lambda row, text: len(text) % 2 == 0
    )
    lines = kept(tmp_path)
    assert lines and all("e" in row["completion"] and len(row["completion"]) % 2 == 0 for row in lines)
    per_prompt = {}
    for row in lines:
        per_prompt.setdefault(row["example_id"], []).append(row["completion"])
    assert max(map(len, per_prompt.values())) <= 2 and all(len(set(own)) == len(own) for own in per_prompt.values())
    assert metrics.kept == metrics.sft.chains == len(lines) < metrics.right < metrics.sampled == 480
    before, after = load_file(policy / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    assert any(not torch.equal(before[key].float(), after[key]) for key in after)


def test_a_killed_round_samples_only_what_is_missing(policy, tmp_path):
    whole, again = HasE(), HasE()
    expert_iteration(policy, rows(), whole, SETTINGS, StageContext(tmp_path / "a"))
    expert_iteration(policy, rows(), HasE(), SETTINGS, StageContext(tmp_path / "b"))
    (tmp_path / "b" / "checkpoints" / "sampled" / "00001.json").unlink()
    expert_iteration(policy, rows(), again, SETTINGS, StageContext(tmp_path / "b"))
    assert whole.calls == 2 and again.calls == 1 and kept(tmp_path / "a") == kept(tmp_path / "b")


def test_nothing_kept_is_said(policy, tmp_path):
    with pytest.raises(RunError, match="none of 24 completions was kept"):
        expert_iteration(policy, rows(2), HasE(), SETTINGS, StageContext(tmp_path), accept=lambda row, text: False)


def test_what_was_sampled_with_other_settings_is_not_taken(policy, tmp_path):
    expert_iteration(policy, rows(), HasE(), SETTINGS, StageContext(tmp_path))
    (tmp_path / "checkpoints" / "sampled" / "00001.json").unlink()
    warmer = SETTINGS.model_copy(update={"temperature": 1.5})
    with pytest.raises(RunError, match="sampled with other settings"):
        expert_iteration(policy, rows(), HasE(), warmer, StageContext(tmp_path))
