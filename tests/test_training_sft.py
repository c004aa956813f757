"""SFT: label rows mixed in, users held out, early stopping, the best weights kept, gradient checkpointing."""

import json
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.text import learned_ids
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import ModelError, RunError
from tagpr.progress import StageContext
from tagpr.training.answer_weights import answer_weights
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import ExpertSettings, SFTSettings
from tagpr.training.sft import train_sft
from tagpr.training.sft_rows import hold_out, mixed, within

BASE = {"learning_rate": 3e-3, "epochs": 4, "batch_size": 4, "precision": "fp32", "tokens_per_forward": 128}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def groups(users=6, each=2):
    """Random prompts and completions: what is learned of some users does not help with others."""
    draw = torch.Generator().manual_seed(0)

    def ids(n):
        return torch.randint(5, 300, (n,), generator=draw).tolist()

    return [TrainingRow(ids(6 + i), [ids(4), ids(7)], user_id=f"u{u}") for u in range(users) for i in range(each)]


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def own_loss(folder, rows):
    """Mean of minus log p of all completion tokens, one sequence at a time through transformers' own forward pass."""
    model, total, tokens = load_causal_lm(folder, dtype="float32"), 0.0, 0
    for row in rows:
        for completion in row.completion_ids:
            ids = torch.tensor([[*row.prompt_ids, *completion]])
            logits = model(ids).logits[0].log_softmax(-1)
            for place in range(len(row.prompt_ids), ids.shape[1]):
                total -= logits[place - 1, ids[0, place]].item()
                tokens += 1
    return total / tokens


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_mix_has_its_share_of_label_rows(share):
    chains, labels = groups(), groups(4, 1)
    rows = mixed(chains, labels, share, seed=1)
    assert rows[: len(chains)] == chains
    drawn = rows[len(chains) :]
    whole = len(chains) / (1 - share)  # 12 chains: 16, 24 and 60 rows
    assert len(rows) == round(whole) and len(drawn) == round(whole * share)
    counts = [sum(row is label for row in drawn) for label in labels]
    assert max(counts) - min(counts) <= 1, "a label row came a second time before every one was taken"
    assert mixed(chains, labels, share, seed=1) == rows != mixed(chains, labels, share, seed=2)


def test_mix_without_labels_is_refused():
    assert mixed(groups(), [], 0.0, seed=0) == groups()
    with pytest.raises(RunError, match=r"sft\.mix"):
        mixed(groups(), [], 0.5, seed=0)


def test_held_out_rows_are_those_of_whole_users():
    train, heldout = hold_out(groups(), 2, seed=0)
    assert len({row.user_id for row in heldout}) == 2 and len(heldout) == 4 and len(train) == 8
    assert not {row.user_id for row in train} & {row.user_id for row in heldout}
    with pytest.raises(RunError, match="6 users"):
        hold_out(groups(), 6, seed=0)


@pytest.mark.parametrize("seed", range(6))
def test_two_trainings_hold_out_the_same_users_whichever_rows_they_have(seed):
    rows, everyone = groups(), [f"u{u}" for u in range(6)]
    train, heldout = hold_out(rows, 3, seed, everyone)
    fewer = [row for row in rows if row.user_id not in ("u1", "u4")]  # of these users no chain came out right
    assert hold_out(fewer, 3, seed, everyone) == (
        [row for row in train if row in fewer],
        [row for row in heldout if row in fewer],
    )


def test_held_out_users_without_rows_are_refused():
    rows, refusals = [row for row in groups() if row.user_id == "u0"], set()
    for seed in range(8):  # either of two users is held out, of whom one has no row
        with pytest.raises(RunError, match="hold out") as refused:
            hold_out(rows, 1, seed, ("u0", "u1"))
        refusals.add(str(refused.value).partition("; ")[2])
    assert refusals == {"hold out fewer of them", "hold out more of them"}


def test_the_best_weights_are_kept_by_the_held_out_loss(policy, tmp_path):
    settings = SFTSettings(
        **BASE | {"epochs": 10, "learning_rate": 0.02}, heldout_users=2, heldout_every=2, keep="best"
    )
    metrics = train_sft(policy, groups(), settings, StageContext(tmp_path))
    values = read(tmp_path / "heldout.jsonl")
    assert len(values) == 10 and metrics.steps == 20
    best = min(values, key=lambda row: row["heldout"])
    assert metrics.kept_step == best["step"] < 20, "noise of some users was learned without overfitting"
    _, heldout = hold_out(groups(), 2, seed=0)
    assert math.isclose(own_loss(tmp_path / "model", heldout), best["heldout"], rel_tol=1e-4)


def test_early_stopping_ends_after_patience_and_the_best_is_kept(policy, tmp_path):
    falling = iter([0.5, 0.6, 0.6, 0.55, 0.9])
    settings = SFTSettings(**BASE, heldout_users=2, heldout_every=1, patience=2, keep="best")
    metrics = train_sft(policy, groups(), settings, StageContext(tmp_path), metric=lambda model: next(falling))
    assert metrics.steps == 4 and metrics.kept_step == 2
    assert [row["heldout"] for row in read(tmp_path / "heldout.jsonl")] == [0.5, 0.6, 0.6, 0.55]


def test_a_killed_training_has_waited_as_long_as_an_undisturbed_one(policy, tmp_path):
    settings = SFTSettings(**BASE, heldout_users=2, heldout_every=1, patience=2, keep="best")

    def stopping(step, total, note=""):
        if step == 4:  # after the checkpoint of step 3, the first step that was no better
            raise KeyboardInterrupt

    values = [0.5, 0.6, 0.55, 0.55, 0.9]
    with pytest.raises(KeyboardInterrupt):
        train_sft(policy, groups(), settings, StageContext(tmp_path, 0, stopping), metric=iter_metric(values))
    again = train_sft(policy, groups(), settings, StageContext(tmp_path), metric=iter_metric(values[3:]))
    assert again.steps == 4 and again.kept_step == 2


def iter_metric(values):
    falling = iter(values)
    return lambda model: next(falling)


def test_the_metric_gets_the_model_as_it_stands(policy, tmp_path):
    from tagpr.engine.types import Sampling

    seen = []

    def metric(model):
        ((one,),) = model.generate([[5, 6, 7]], Sampling(4, temperature=0))
        seen.append(one.token_ids)
        return float(len(seen))

    train_sft(
        policy,
        groups(),
        SFTSettings(**BASE | {"learning_rate": 0.05}, heldout_users=1),
        StageContext(tmp_path),
        metric=metric,
    )
    assert len(seen) == 4 and seen[0] != seen[-1]


def test_held_out_users_are_not_learned_from(policy, tmp_path):
    settings = SFTSettings(**BASE, heldout_users=2)
    train, _ = hold_out(groups(), 2, seed=0)
    train_sft(policy, groups(), settings, StageContext(tmp_path / "a"))
    train_sft(policy, train, SFTSettings(**BASE), StageContext(tmp_path / "b"))
    a, b = (load_file(tmp_path / side / "model" / "model.safetensors") for side in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_gradient_checkpointing_changes_nothing(policy, tmp_path):
    for name, on in (("plain", False), ("again", True)):
        settings = SFTSettings(**BASE | {"epochs": 1}, gradient_checkpointing=on)
        train_sft(policy, groups(), settings, StageContext(tmp_path / name))
    a, b = (load_file(tmp_path / side / "model" / "model.safetensors") for side in ("plain", "again"))
    assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-5


@pytest.mark.parametrize("idle", [{"patience": 2}, {"keep": "best"}, {"heldout_every": 3}])
def test_choosing_steps_without_held_out_users_is_refused(idle):
    with pytest.raises(ValidationError, match="heldout_users"):
        SFTSettings(**idle)


def test_frozen_layers_and_embeddings_stay_and_the_rest_learns(policy, tmp_path):
    train_sft(policy, groups(), SFTSettings(**BASE | {"frozen_layers": 1}), StageContext(tmp_path))
    before, after = load_file(policy / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    frozen = {name for name in after if "embed_tokens" in name or ".layers.0." in name}
    assert frozen and any(".layers.1." in name for name in after)
    assert {name for name in after if torch.equal(before[name].float(), after[name])} == frozen


def test_frozen_layers_beyond_the_model_and_beside_lora_are_refused(policy, tmp_path):
    with pytest.raises(ModelError, match="frozen_layers=2: the model has 2 layers; lower it"):
        train_sft(policy, groups(), SFTSettings(**BASE | {"frozen_layers": 2}), StageContext(tmp_path))
    with pytest.raises(ValidationError, match="set one of them"):
        SFTSettings(frozen_layers=1, lora_rank=4)


def test_steps_take_the_place_of_epochs(policy, tmp_path):
    metrics = train_sft(policy, groups(), SFTSettings(**BASE), StageContext(tmp_path), steps=5)
    assert metrics.steps == 5 and len(read(tmp_path / "log.jsonl")) == 5


CHAIN = "<think>\n<a> net, mail: mail x1. </a>\n<b> mail over net, not mailbox. </b>\n</think>\nmail"


def test_tokens_that_write_the_answer_weigh_more_wherever_they_stand(policy):
    tokenizer = load_tokenizer(policy)
    ids, weights = learned_ids(tokenizer, CHAIN), answer_weights(tokenizer, CHAIN, 5)
    assert len(ids) == len(weights) and sum(weights) == pytest.approx(len(ids))
    least, most = min(weights), max(weights)
    assert most == pytest.approx(5 * least)
    heavy = "".join(tokenizer.decode([i]) if w == most else "|" for i, w in zip(ids, weights, strict=True))
    assert [part for part in heavy.replace(" ", "").split("|") if part] == ["mail"] * 4  # not that of `mailbox`


def test_texts_without_a_chain_and_a_weight_of_one_weigh_alike(policy):
    tokenizer = load_tokenizer(policy)
    assert answer_weights(tokenizer, "mail", 5) == answer_weights(tokenizer, CHAIN, 1) == []
    assert answer_weights(tokenizer, "<think> a </think> ", 5) == []


def test_the_loss_is_the_weighed_mean_and_alike_weights_change_nothing(policy, tmp_path):
    rows = groups()
    alike = [replace(row, token_weights=[[1.0] * len(ids) for ids in row.completion_ids]) for row in rows]
    first = [replace(row, token_weights=[[4.0] + [0.0] * 3, []]) for row in rows]  # of every group's two completions
    settings = SFTSettings(**BASE | {"epochs": 1, "batch_size": 12})
    losses = [
        train_sft(policy, own, settings, StageContext(tmp_path / str(i))).loss
        for i, own in enumerate((rows, alike, first))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    model, total = load_causal_lm(policy, dtype="float32"), 0.0
    for row in rows:
        for completion, weights in zip(row.completion_ids, ([4.0, 0, 0, 0], [1.0] * 7), strict=True):
            logits = model(torch.tensor([[*row.prompt_ids, *completion]])).logits[0].log_softmax(-1)
            places = range(len(row.prompt_ids) - 1, len(row.prompt_ids) + len(completion) - 1)
            total -= sum(w * logits[p, t].item() for w, p, t in zip(weights, places, completion, strict=True))
    assert losses[2] == pytest.approx(total / (11 * len(rows)), rel=1e-4) != pytest.approx(losses[0], rel=1e-3)


def test_over_long_completions_take_their_weights_with_them():
    row = TrainingRow([1, 2], [[3, 4], [5, 6, 7, 8]], token_weights=[[0.5, 1.5], [1.0] * 4])
    ((kept,), left_out) = within([row], 4)
    assert left_out == 1 and kept.completion_ids == [[3, 4]] and kept.token_weights == [[0.5, 1.5]]


def test_an_answer_weight_in_expert_iteration_is_refused():
    with pytest.raises(ValidationError, match="answer_weight does nothing"):
        ExpertSettings(sft=SFTSettings(answer_weight=2))
