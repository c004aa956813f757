"""RL's choices beside the paper's defaults, each against a reference of its own: groups, rate, weights, samples."""

import json
import logging
import math
import statistics
from collections import Counter

import pyarrow.parquet as parquet
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tagpr.engine.models import load_causal_lm
from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RunError
from tagpr.progress import StageContext
from tagpr.training.gspo import train_gspo
from tagpr.training.gspo_objective import gspo_loss
from tagpr.training.job import RLJob
from tagpr.training.rollout import capped, of_every_user
from tagpr.training.rows import TrainingRow
from tagpr.training.schedule import learning_rate
from tagpr.training.settings import GSPOSettings

BASE = {
    "learning_rate": 5e-3,
    "steps": 4,
    "prompts_per_step": 4,
    "group_size": 3,
    "max_new_tokens": 6,
    "precision": "fp32",
    "save_steps": 1,
}


class Vowels:
    """R_v: an 'e' in the text. The whole reward also has the share of vowels, which differs nearly always."""

    def components(self, completions, **_):
        values = [float("e" in text) for text in completions]
        shares = [sum(c in "aeiou" for c in text) / (len(text) + 1) for text in completions]
        return [{"reward": v + s, "verifiable": v, "tag": -s} for v, s in zip(values, shares, strict=True)]


def rows(n=9):
    draw = torch.Generator().manual_seed(0)
    return [
        TrainingRow(torch.randint(3, 300, (6 + i,), generator=draw).tolist(), example_id=f"e{i}", user_id=f"u{i}")
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def weights(out):
    return load_file(out / "model" / "model.safetensors")


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def groups_of(out, size=3):
    """Rows of samples.parquet by step, in groups."""
    table = parquet.read_table(out / "samples.parquet").to_pylist()
    steps = {}
    for row in table:
        steps.setdefault(row["step"], []).append(row)
    return {step: [found[i : i + size] for i in range(0, len(found), size)] for step, found in steps.items()}


def test_samples_hold_every_completion_with_its_reward_parts_and_advantage(policy, tmp_path):
    train_gspo(RLJob(policy, rows(), Vowels(), GSPOSettings(**BASE), StageContext(tmp_path)))
    steps = groups_of(tmp_path)
    assert sorted(steps) == [1, 2, 3, 4] and all(len(groups) == 4 for groups in steps.values())
    for group in (group for groups in steps.values() for group in groups):
        assert len({row["example_id"] for row in group}) == 1 and group[0]["user_id"] == group[0]["example_id"].replace(
            "e", "u"
        )
        rewards = [row["reward"] for row in group]
        for row in group:
            (again,) = Vowels().components([row["completion"]])
            assert (
                row["reward"] == again["reward"] and row["r_v"] == again["verifiable"] and row["r_tag"] == again["tag"]
            )
            assert row["r_prmu"] is None and row["r_rep"] is None and row["r_f"] is None and row["task"] is None
            expected = 0.0
            if len(set(rewards)) > 1:
                expected = (row["reward"] - statistics.mean(rewards)) / (statistics.stdev(rewards) + 1e-4)
            assert math.isclose(row["advantage"], expected, abs_tol=1e-5)


def test_samples_are_bounded_by_whole_groups(policy, tmp_path):
    train_gspo(
        RLJob(
            policy,
            rows(),
            Vowels(),
            GSPOSettings(**BASE | {"steps": 1}, samples_per_step=7),
            StageContext(tmp_path / "a"),
        )
    )
    assert parquet.read_table(tmp_path / "a" / "samples.parquet").num_rows == 6
    train_gspo(
        RLJob(
            policy,
            rows(),
            Vowels(),
            GSPOSettings(**BASE | {"steps": 1}, samples_per_step=0),
            StageContext(tmp_path / "b"),
        )
    )
    assert not (tmp_path / "b" / "samples.parquet").exists()


def test_only_groups_whose_r_v_differs_are_learned_from(policy, tmp_path):
    train_gspo(RLJob(policy, rows(), Vowels(), GSPOSettings(**BASE, groups="verifiable"), StageContext(tmp_path)))
    seen = {True: 0, False: 0}
    for group in (group for groups in groups_of(tmp_path).values() for group in groups):
        differs = len({row["r_v"] for row in group}) > 1
        seen[differs] += 1
        assert any(row["advantage"] for row in group) is differs
    assert all(seen.values()), seen


def test_oversampling_fills_the_step_with_such_groups(policy, tmp_path):
    settings = GSPOSettings(**BASE | {"steps": 3}, groups="verifiable", oversample=8)
    metrics = train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path)))
    log, steps = read_log(tmp_path), groups_of(tmp_path)
    for row in log:
        groups = steps[row["step"]]
        learned = [group for group in groups if any(one["advantage"] for one in group)]
        able = [group for group in groups if len({one["r_v"] for one in group}) > 1]
        assert row["sampled"] == 3 * len(groups) > 12 and len(groups) % 4 == 0
        assert learned == able[:4] and len(learned) == 4
        assert row["verifiable_groups"] == pytest.approx(len(able) / len(groups))
    assert metrics.completion_tokens > 0


def test_a_reward_without_parts_cannot_tell_verifiable_groups(policy, tmp_path):
    plain = lambda prompts, completions, **_: [float(len(text)) for text in completions]  # noqa: E731
    with pytest.raises(RunError, match="groups"):
        train_gspo(RLJob(policy, rows(), plain, GSPOSettings(**BASE, groups="verifiable"), StageContext(tmp_path)))


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("none", [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_the_rate_rises_and_falls(decay, expected):
    settings = GSPOSettings(learning_rate=2e-6, warmup_steps=1, decay=decay)
    rates = [learning_rate(settings, step, 5) for step in range(5)]
    assert rates == pytest.approx([2e-6 * value for value in expected], rel=1e-9)


def test_a_decaying_rate_is_logged_and_other_steps_are_another_run(policy, tmp_path):
    settings = GSPOSettings(**BASE, decay="linear")
    train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path)), stop_after=2)
    with pytest.raises(RunError, match="other settings"):
        train_gspo(RLJob(policy, rows(), Vowels(), settings.model_copy(update={"steps": 6}), StageContext(tmp_path)))
    train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path)))
    assert [row["learning_rate"] for row in read_log(tmp_path)] == pytest.approx([5e-3, 3.75e-3, 2.5e-3, 1.25e-3])


def test_the_best_weights_are_kept_and_a_run_in_parts_keeps_the_same(policy, tmp_path):
    changes = {"steps": 5, "learning_rate": 0.05, "heldout_every": 1, "save_steps": 2}
    assert GSPOSettings(**BASE | changes).keeps_best and not GSPOSettings(**BASE).keeps_best
    settings = GSPOSettings(**BASE | changes)
    whole = train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path / "whole"), heldout=rows(6)))
    values = []
    for step in range(6):
        table = json.loads((tmp_path / "whole" / "heldout" / f"step-{step:05d}.json").read_text())
        values.append(tuple(sum(table[key]) / len(table[key]) for key in ("verifiable", "reward")))
    best = max(range(6), key=lambda step: (*values[step], step))
    assert whole.kept_step == best and len({verifiable for verifiable, _ in values}) > 1
    for stop in (1, 2, None):
        train_gspo(
            RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path / "parts"), heldout=rows(6)),
            stop_after=stop,
        )
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights(tmp_path / "whole").values(), weights(tmp_path / "parts").values(), strict=True)
    )
    assert groups_of(tmp_path / "whole") == groups_of(tmp_path / "parts")
    if best == 0:
        reference = load_file(policy / "model.safetensors")
    else:
        last = GSPOSettings(**BASE | changes | {"keep": "last", "steps": best})
        train_gspo(RLJob(policy, rows(), Vowels(), last, StageContext(tmp_path / "stopped"), heldout=rows(6)))
        reference = weights(tmp_path / "stopped")
    kept = weights(tmp_path / "whole")
    assert all(torch.equal(kept[key], reference[key].float()) for key in kept)


@pytest.mark.parametrize(("every", "expected"), [(2, [2, 3]), (3, [3]), (10, [3])])
def test_the_last_step_is_always_evaluated(policy, tmp_path, every, expected):
    settings = GSPOSettings(**BASE | {"steps": 3, "heldout_every": every})
    train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path), heldout=rows(6)))
    assert [row["step"] for row in read_log(tmp_path) if "heldout/reward" in row] == expected


def test_log_probabilities_from_fp32_logits(policy):
    model = load_causal_lm(policy, dtype="bfloat16")
    prompt, completion = [5, 9, 20, 31], [40, 7, 77]
    (found,) = completion_logprobs(model, [PromptGroup(prompt, [completion])], fp32_head=True)
    (rounded,) = completion_logprobs(model, [PromptGroup(prompt, [completion])])
    hidden = model.model(torch.tensor([[*prompt, *completion]])).last_hidden_state[0].float()
    logits = hidden @ model.lm_head.weight.float().t()
    expected = torch.stack([logits[3 + i].log_softmax(-1)[token] for i, token in enumerate(completion)])
    # the packed row's own bf16 attention differs a little; the head's rounding is what is compared
    assert (found - expected).abs().max() < (rounded - expected).abs().max() + 1e-6
    found.sum().backward()
    assert model.lm_head.weight.grad is not None and torch.isfinite(model.lm_head.weight.grad).all()
    exact = load_causal_lm(policy, dtype="float32")
    a, b = (completion_logprobs(exact, [PromptGroup(prompt, [completion])], fp32_head=on)[0] for on in (True, False))
    assert torch.equal(a, b)


def test_gradient_checkpointing_changes_nothing(policy, tmp_path):
    for name, on in (("plain", False), ("again", True)):
        settings = GSPOSettings(**BASE | {"steps": 2, "learning_rate": 1e-4}, gradient_checkpointing=on)
        train_gspo(RLJob(policy, rows(), Vowels(), settings, StageContext(tmp_path / name)))
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "again")
    assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-6


def test_ratios_outside_the_clip_range_are_counted_on_both_sides():
    old = [torch.zeros(2)] * 4
    logps = [torch.full((2,), math.log(ratio)) for ratio in (1.2, 0.8, 1.2, 1.0)]
    result = gspo_loss(logps, old, torch.tensor([1.0, 1.0, -1.0, 1.0]), 0.1, 0.1)
    assert result.outside.tolist() == [1, 1, 1, 0] and result.clipped.tolist() == [1, 0, 0, 0]


def test_most_ratios_outside_and_most_completions_cut_off_are_said_once(policy, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train_gspo(RLJob(policy, rows(), Vowels(), GSPOSettings(**BASE), StageContext(tmp_path)))
    assert sum("outside the clip range" in record.message for record in caplog.records) == 1
    assert sum("cut off at max_new_tokens=6" in record.message for record in caplog.records) == 1
    log = read_log(tmp_path)
    assert any(row["outside_clip_range"] > 0.5 for row in log) and any(row["truncated"] > 0.5 for row in log)


def test_max_prompts_caps_every_task():
    many = [TrainingRow([i], task="ab"[i % 2]) for i in range(20)]
    kept = capped(many, 4, seed=3)
    assert [sum(row.task == task for row in kept) for task in "ab"] == [4, 4]
    assert kept == sorted(kept, key=lambda row: row.prompt_ids) == capped(many, 4, seed=3) != capped(many, 4, seed=4)
    named = capped(many, {"a": 3}, seed=3)
    assert [sum(row.task == task for row in named) for task in "ab"] == [3, 10]
    assert capped(many, None, seed=3) == many == capped(many, 10, seed=3)


def test_prompts_per_user_caps_every_user_of_every_task():
    many = [TrainingRow([i], task="ab"[i % 2], user_id="long" if i < 16 else f"{i}") for i in range(20)]
    kept = of_every_user(many, 3, seed=3)
    counts = Counter((row.task, row.user_id) for row in kept)
    assert counts == {("a", "long"): 3, ("b", "long"): 3, **{("ab"[i % 2], f"{i}"): 1 for i in range(16, 20)}}
    assert kept == of_every_user(many, 3, seed=3) != of_every_user(many, 3, seed=4)
    assert of_every_user(many, None, seed=3) == many == of_every_user(many, 8, seed=3)


@pytest.mark.parametrize("idle", [{"oversample": 2}, {"keep": "best"}])
def test_settings_of_which_nothing_would_come_are_refused(idle):
    with pytest.raises(ValidationError, match="set"):
        GSPOSettings(**idle)
