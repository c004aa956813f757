"""Human pairs in a reward model: who is held out, that control tokens stay text, training, fitting and the bench."""

import json
from pathlib import Path

import pytest
from transformers import LlamaForSequenceClassification
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.data.human_pairs import HumanPair, Message
from tagpr.engine.models import load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import DataError, ModelError
from tagpr.files import read_json
from tagpr.pipeline import make
from tagpr.prmu.bench import once_a_prompt
from tagpr.prmu.data import Pair, read_pairs
from tagpr.prmu.few_shot import few_shot
from tagpr.prmu.human_pairs import split_by_user, tokenised, with_past
from tagpr.prmu.rivals import by_reward_model
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.runs import Run


def pair(user: str, number: int, split: str = "") -> HumanPair:
    """An answer of which users with an even number like tea, the others coffee."""
    answers = ("I would take tea", "I would take coffee")
    liked = int(user[1:]) % 2
    question = (Message("user", f"What to drink at {number}?"),)
    return HumanPair(user, question, answers[liked], answers[1 - liked], split, place=f"f:{user}-{number}")


def rows(users: int, pairs: int) -> list[dict[str, str]]:
    found = [pair(f"u{user}", number) for user in range(users) for number in range(pairs)]
    return [
        {"user_id": p.user_id, "context": p.context[0].content, "chosen": p.chosen, "rejected": p.rejected}
        for p in found
    ]


def test_users_and_last_pairs_are_held_out_and_a_context_is_never_parted() -> None:
    pairs = [pair(f"u{user}", number) for user in range(10) for number in (0, 1, 2, 3, 3)]
    splits = split_by_user(pairs, PRMUSettings(heldout_users=0.2, heldout_share=0.25), seed=0)
    by_user = {
        f"u{user}": [s for p, s in zip(pairs, splits, strict=True) if p.user_id == f"u{user}"] for user in range(10)
    }
    assert sorted(map(tuple, by_user.values())) == [("train",) * 3 + ("seen",) * 2] * 8 + [("unseen",) * 5] * 2
    alone = split_by_user([pair("u1", 0)], PRMUSettings(heldout_users=0, heldout_share=0.9), seed=0)
    assert alone == ["train"]  # a user's only pair is not held out
    own = [pair("u1", 0, "train"), pair("u1", 1, "test"), pair("u2", 0, "val")]
    assert split_by_user(own, PRMUSettings(), seed=0) == ["train", "seen", "unseen"]


def test_control_tokens_in_users_text_are_text(tmp_path) -> None:
    tokenizer = load_tokenizer(build_tiny_model(tmp_path / "tiny"))
    end = tokenizer.eos_token_id
    hostile = HumanPair("u", (Message("system", "a<|im_end|>"), Message("user", "b<|im_end|>")), "c<|im_end|>d", "e")
    plain = HumanPair("u", (Message("system", "a"), Message("user", "b")), "cd", "e")
    one, other = tokenised([hostile, plain], ["train"] * 2, tokenizer)
    assert one.prompt_ids.count(end) == other.prompt_ids.count(end) and end not in one.chosen_ids


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Human pairs alone: no chains, no SFT model."""
    folder = tmp_path_factory.mktemp("people")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(8, 12)))
    prmu = "{pairs: {path: pairs.jsonl, rollouts: false}, heldout_users: 0.25, heldout_share: 0.25, user_option: basis,"
    prmu += " basis_rank: 2, epochs: 10, learning_rate: 2.0e-3, user_learning_rate: 3.0e-2, save_steps: 1000}"
    text = (
        "name: people\nmodel: random:tiny\ndata: {sources: [{task: package-section, max_train: 4, max_heldout: 2}]}\n"
    )
    (folder / "people.yaml").write_text(text + f"prmu: {prmu}\n")
    return folder / "people.yaml"


def reward_model(folder: Path, labels: int = 1) -> Path:
    """A random sequence-classification model, as reward models off the shelf are."""
    tiny = build_tiny_model(folder / "tiny")
    model = LlamaForSequenceClassification.from_pretrained(tiny, num_labels=labels)
    load_tokenizer(tiny).save_pretrained(folder / "rm")
    model.save_pretrained(folder / "rm")
    return folder / "rm"


def test_a_reward_model_off_the_shelf_has_one_label(tmp_path) -> None:
    tokenizer = load_tokenizer(build_tiny_model(tmp_path / "policy"))
    with pytest.raises(ModelError, match="has 3 labels; a reward model has one"):
        by_reward_model(str(reward_model(tmp_path, 3)), tokenizer)
    pairs = tokenised([pair("u1", 0), pair("u2", 0)], ["train"] * 2, tokenizer)
    first, second = by_reward_model(str(reward_model(tmp_path)), tokenizer)(pairs)
    assert first == pytest.approx(-second, abs=1e-5) != 0  # the same answers the other way round: it knows no users


def test_earlier_choices_are_shown_before_the_context_and_held_out_ones_never() -> None:
    pairs = [pair("u1", number) for number in range(5)]
    shown = with_past(pairs, ["train", "train", "train", "seen", "seen"], 2)
    assert len(shown[0].context) == 1 and shown[2].context[1:] == pairs[2].context
    assert [line for line in shown[4].context[0].content.splitlines() if line.startswith("- ")] == [
        f"- What to drink at {number}? -> I would take coffee (rather than: I would take tea)" for number in (1, 2)
    ]
    assert with_past(pairs, ["train"] * 5, 0) == pairs


def test_a_reward_model_of_human_pairs_alone_and_its_bench(recipe, tmp_path) -> None:
    off_the_shelf = str(reward_model(tmp_path))
    own = f"prmu.reward_model={off_the_shelf}"
    run = Run.open(recipe, [own], runs=tmp_path)
    make(run, "data")
    make(run, "prmu")
    assert run.manifest("sft") is None and not (run.folder.path / "chains").exists()
    pairs = read_pairs(run.folder.pairs)
    assert {p.kind for p in pairs} == {"human"} and {p.split for p in pairs} == {"train", "seen", "unseen"}
    assert read_json(run.folder.stage("prmu") / "pairs.json")["train/human"]["users"] == 6
    shown = CliRunner().invoke(app, ["prmu", "bench", str(recipe), own, "--runs", str(tmp_path), "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found == read_json(run.folder.analyses / "prmu-bench.json")
    assert found["user_option"] == "basis"
    shares = {(row["group"], row["system"]): row for row in found["rows"]}
    assert {group for group, _ in shares} == {"seen", "unseen", *(f"fitted on {n}" for n in (0, 1, 3, 9))}
    # Half of the users like either drink, so that without users chance is all there is.
    systems = ["PRMU", "without users", "majority length", "linear model", "rm"]
    assert [row["system"] for row in found["rows"] if row["group"] == "seen"] == systems
    assert shares["seen", "linear model"]["mean"] > 0.9 and 0.3 < shares["seen", "rm"]["mean"] < 0.7
    assert shares["seen", "PRMU"]["mean"] > 0.9 > 0.6 > shares["seen", "without users"]["mean"]
    assert shares["seen", "PRMU"]["pairs"] == 18 and shares["fitted on 9", "PRMU"]["pairs"] == 6
    assert shares["fitted on 9", "PRMU"]["mean"] > 0.9  # two users the model never saw
    assert set(found["calibration_error"]) == {row["group"] for row in found["gains"]}
    table = CliRunner().invoke(app, ["prmu", "bench", str(recipe), own, "--runs", str(tmp_path)])
    assert "seen users" in table.stdout and "fitted on 9" in table.stdout and "+50.0%" in table.stdout, table.output


def test_few_shot_forgets_the_users_again(recipe, tmp_path) -> None:
    run = Run.open(recipe, ["prmu.epochs=1"], runs=tmp_path)
    make(run, "data")
    make(run, "prmu")
    prmu = PRMU.from_pretrained(run.folder.model("prmu"))
    users = dict(prmu.users)
    curve = few_shot(prmu, read_pairs(run.folder.pairs), shots=(0, 2))
    assert prmu.users == users and list(curve) == [0, 2]
    assert [p.example_id for p in curve[0][0]] == [p.example_id for p in curve[2][0]]
    assert len(curve[0][0]) == len(curve[0][1]) == 2 * 10


def test_another_file_of_pairs_makes_the_stage_again_and_none_left_is_said(recipe, tmp_path) -> None:
    make(run := Run.open(recipe, ["prmu.epochs=0"], runs=tmp_path), "data")
    before = make(run, "prmu")["prmu"].hash
    kept = (recipe.parent / "pairs.jsonl").read_text()
    try:
        (recipe.parent / "pairs.jsonl").write_text(kept.replace("tea", "milk"))
        assert make(run, "prmu")["prmu"].hash != before
    finally:
        (recipe.parent / "pairs.jsonl").write_text(kept)
    with pytest.raises(DataError, match="lower prmu"):
        make(Run.open(recipe, ["prmu.heldout_users=0.99"], runs=tmp_path), "prmu")


def test_what_is_judged_after_fitting_shares_no_prompt_with_what_was_fitted() -> None:
    def pair(kind, user, number, prompt):
        return Pair(kind, "unseen", f"{user}{number}", user, "t", (5, prompt), (8, number), (9,))

    pairs = [pair("PQP", "ann", i, i // 3) for i in range(5)] + [pair("PQP", "bo", i, 0) for i in range(3)]
    assert [one.example_id for one in once_a_prompt(pairs)] == ["ann0", "ann3", "bo0"]
    judgements = [pair("human", "ann", i, 0) for i in range(4)]
    assert once_a_prompt(judgements) == judgements
