"""Human pairs: each format in the exact form of its files, and what a bad row is told."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tagpr.data.formats.feedback import feedback_digest
from tagpr.data.human_pairs import EVERYONE, HumanPair, Message, read_human_pairs
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError
from tagpr.serve.feedback import Feedback, FeedbackStore

USER = Message("user", "Tea or coffee?")


def file(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def plain(**changes: object) -> dict[str, object]:
    return {"user_id": "ann", "context": "Tea or coffee?", "chosen": "Tea.", "rejected": "Coffee."} | changes


def test_own_feedback_rows(tmp_path) -> None:
    """Rows of one's own, with and without what is optional."""
    turns = [{"role": "user", "content": "Tea or coffee?"}]
    path = file(tmp_path / "feedback.jsonl", plain(), plain(user_id=7, context=turns, split="test", scores=[9, 2.5]))
    first, second = read_human_pairs(path)
    assert first == HumanPair("ann", (USER,), "Tea.", "Coffee.", place=f"{path}:1")
    assert second == HumanPair("7", (USER,), "Tea.", "Coffee.", "test", 6.5, place=f"{path}:2")


def test_personalrewardbench_from_parquet(tmp_path) -> None:
    """prism_personalized_0125: messages as structs, two score columns, and columns that are not read."""
    row = {
        "user_id": "user0",
        "split": "val",
        "conversation_id": "c0",
        "context": [{"role": "user", "content": "Tea or coffee?"}],
        "chosen": {"role": "assistant", "content": "Tea."},
        "rejected": {"role": "assistant", "content": "Coffee."},
        "chosen_score": 90.0,
        "rejected_score": 40.0,
        "dataset": "prism",
        "personalizable_query": True,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "prism.parquet")
    (pair,) = read_human_pairs(tmp_path / "prism.parquet")
    assert (pair.user_id, pair.context, pair.chosen, pair.rejected) == ("user0", (USER,), "Tea.", "Coffee.")
    assert (pair.split, pair.margin) == ("val", 50.0)


@pytest.mark.parametrize("name", ["prism_personalized_0125", "chatbot_arena_personalized_0125"])
def test_personalrewardbench_from_the_hub(name, monkeypatch) -> None:
    import datasets

    def load(owner_name: str, config: str, split: str) -> datasets.Dataset:
        assert (owner_name, config, split) == (f"MichaelR207/{name}", "default", "train")
        turn = {"role": "user", "content": "Tea or coffee?"}
        row = {"user_id": "u", "split": "test", "context": [turn], "chosen_score": None, "rejected_score": None}
        sides = {"chosen": {"role": "assistant", "content": "Tea."}, "rejected": {"role": "assistant", "content": "C."}}
        return datasets.Dataset.from_list([row | sides])

    monkeypatch.setattr(datasets, "load_dataset", load)
    (pair,) = read_human_pairs(f"hub:MichaelR207/{name}/default/train")
    assert (pair.user_id, pair.context, pair.chosen, pair.rejected) == ("u", (USER,), "Tea.", "C.")
    assert (pair.split, pair.margin) == ("test", None)


def test_prism_conversations(tmp_path) -> None:
    """Every two replies of a turn with different scores; the next turn follows the chosen reply."""
    reply = {"turn": 0, "role": "model", "model_name": "m"}
    history = [
        {"turn": 0, "role": "user", "content": "Tea or coffee?"},
        {**reply, "content": "Tea.", "score": 80, "if_chosen": True},
        {**reply, "content": "Coffee.", "score": 30, "if_chosen": False},
        {**reply, "content": "Water.", "score": 30, "if_chosen": False},
        {"turn": 1, "role": "user", "content": "Why?"},
        {**reply, "turn": 1, "content": "It is warm.", "score": 20, "if_chosen": False},
        {**reply, "turn": 1, "content": "It is calm.", "score": 70, "if_chosen": True},
    ]
    path = file(
        tmp_path / "conversations.jsonl", {"conversation_id": "c", "user_id": "u", "conversation_history": history}
    )
    pairs = read_human_pairs(path)
    assert [(p.chosen, p.rejected, p.margin) for p in pairs] == [
        ("Tea.", "Coffee.", 0.5),
        ("Tea.", "Water.", 0.5),
        ("It is calm.", "It is warm.", 0.5),
    ]
    assert pairs[0].context == (USER,)
    assert pairs[2].context == (USER, Message("assistant", "Tea."), Message("user", "Why?"))


def test_personalized_rewardbench_never_reads_the_rubric(tmp_path) -> None:
    row = {
        "id": "q1",
        "question": "Tea or coffee?",
        "profile": [{"id": "p1", "text": "I sleep badly.", "category": "x"}],
        "narrative": "SECRET",
        "rubric_aspects": [{"aspect": "SECRET", "reason": "r", "evidence": "e"}],
        "category": "Lifestyle",
        "chosen": "Tea.",
        "rejected": "Coffee.",
    }
    (pair,) = read_human_pairs(file(tmp_path / "test.jsonl", row))
    assert (pair.user_id, pair.context, pair.history, pair.split) == ("q1", (USER,), ("I sleep badly.",), "test")
    assert "SECRET" not in str(pair)


def test_hh_text_and_messages(tmp_path) -> None:
    text = "\n\nHuman: Tea or coffee?\n\nAssistant: Hm.\n\nHuman: Say!\n\nAssistant: "
    turns = [{"role": "user", "content": "Tea or coffee?"}, {"role": "assistant", "content": "Tea."}]
    other = [turns[0], {"role": "assistant", "content": "Coffee."}]
    path = file(
        tmp_path / "hh.jsonl",
        {"chosen": text + "Tea.", "rejected": text + "Coffee."},
        {"chosen": turns, "rejected": other, "user_id": "bo"},
    )
    first, second = read_human_pairs(path)
    assert first.user_id == EVERYONE and second.user_id == "bo" and second.context == (USER,)
    assert first.context == (USER, Message("assistant", "Hm."), Message("user", "Say!"))
    assert (first.chosen, first.rejected) == (second.chosen, second.rejected) == ("Tea.", "Coffee.")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (plain(chosen=None), "field 'chosen' is missing or empty"),
        (plain(user_id=["x"]), "field 'user_id' must be text or a number, not a list"),
        (plain(context=[{"role": "wizard", "content": "x"}]), "role 'wizard' is none of user, human"),
        (plain(context=[]), "context must be text or a list of messages"),
        (plain(rejected="Tea."), "chosen and rejected are the same text"),
        (plain(scores=[1]), "scores must be a list of two numbers"),
        ({"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: c\n\nAssistant: d"}, "same conversation up to"),
        ({"chosen": "b", "rejected": "d"}, "must be a conversation"),
        ({"user_id": "u", "conversation_history": [{"turn": 0, "role": "user"}]}, "field 'content' is missing"),
        ({"user_id": "u", "text": "x"}, "field 'context' is missing or empty (found: user_id, text)"),
        ({"id": "q", "question": "x", "profile": 3, "chosen": "a", "rejected": "b"}, "field 'profile' must be a list"),
        ({"id": "q", "question": "", "chosen": "a", "rejected": "b"}, "field 'question' is missing or empty"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(row, says, tmp_path) -> None:
    path = file(tmp_path / "pairs.jsonl", row)
    with pytest.raises(DataError) as raised:
        read_human_pairs(path)
    assert str(raised.value).startswith(f"{path}:1: ") and says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pair_counts_once_names_are_mapped_and_bad_rows_can_be_skipped(tmp_path) -> None:
    renamed = {"who": "ann", "context": "Tea or coffee?", "better": "Tea.", "worse": "Coffee."}
    rejects = Rejects(skip=True)
    path = file(tmp_path / "pairs.jsonl", renamed, renamed, {**renamed, "better": ""})
    pairs = read_human_pairs(path, fields={"user_id": "who", "chosen": "better", "rejected": "worse"}, rejects=rejects)
    assert len(pairs) == 1 and pairs[0].user_id == "ann" and rejects.records == 1
    empty = file(tmp_path / "none.jsonl", {"user_id": "u", "conversation_history": []})
    with pytest.raises(DataError, match="no pair in it"):
        read_human_pairs(empty)


def utterance(turn: int, place: int, **changes: object) -> dict[str, object]:
    row = {
        "utterance_id": f"ut{turn}{place}",
        "interaction_id": f"int{turn}",
        "conversation_id": "c0",
        "user_id": "user0",
    }
    row |= {
        "turn": turn,
        "within_turn_id": place,
        "user_prompt": f"Question {turn}",
        "model_response": f"Reply {turn}{place}",
    }
    return row | {"score": 50 + 10 * place, "if_chosen": place == 1} | changes


def test_prism_raw_utterances_are_the_conversations_they_were_part_of(tmp_path) -> None:
    """One scored reply a row: in a turn every two are a pair with a margin; the next turn follows the chosen one."""
    rows = [utterance(0, 0), utterance(0, 1), utterance(1, 0), utterance(1, 1), utterance(0, 0, conversation_id="c1")]
    first, second = read_human_pairs(file(tmp_path / "utterances.jsonl", *rows))
    assert (first.user_id, first.context, first.chosen, first.rejected) == (
        "user0", (Message("user", "Question 0"),), "Reply 01", "Reply 00",
    )  # fmt: skip
    assert first.margin == pytest.approx(0.1)
    assert second.context == (
        Message("user", "Question 0"), Message("assistant", "Reply 01"), Message("user", "Question 1"),
    )  # fmt: skip
    bad = file(tmp_path / "bad.jsonl", utterance(0, 0), utterance(0, 1, user_id="user9"))
    with pytest.raises(DataError, match=r"bad.jsonl:2: conversation 'c0' is of two users"):
        read_human_pairs(bad)


def test_a_servers_feedback_is_read_from_its_store_and_its_export(tmp_path) -> None:
    """What `tagpr serve` wrote: a correction makes a pair, a thumb alone none."""
    store = FeedbackStore(tmp_path / "serve" / "feedback.sqlite")
    messages = ({"role": "system", "content": "Answer."}, {"role": "user", "content": "Tea or coffee?"})
    for number, (user, chosen, rejected) in enumerate(
        [("ann", "Tea.", "Coffee."), ("ann", "Tea!", None), ("bob", "Coffee.", "Tea.")]
    ):
        rating = "down" if rejected else "up"
        store.add(
            Feedback(
                f"f{number}", user, "t", "final", f"2026-01-0{3 - number}", "q", (), messages, rating, chosen, rejected
            )
        )
    rows = [json.dumps(asdict(one)) for one in store.all()]
    pairs = read_human_pairs(store.database.path)  # while the server has it open
    before = feedback_digest(store.database.path)
    store.delete_user("bob")
    assert feedback_digest(store.database.path) != before  # a reward model of these pairs is trained again
    store.close()
    context = (Message("system", "Answer."), Message("user", "Tea or coffee?"))
    assert [(pair.user_id, pair.context, pair.chosen, pair.rejected) for pair in pairs] == [
        ("bob", context, "Coffee.", "Tea."),  # oldest first
        ("ann", context, "Tea.", "Coffee."),
    ]
    export = tmp_path / "export.jsonl"
    export.write_text("\n".join(rows) + "\n")
    assert [replace(pair, place="") for pair in read_human_pairs(export)] == [replace(pair, place="") for pair in pairs]
    with pytest.raises(DataError, match="no such file"):
        read_human_pairs(tmp_path / "none.sqlite")
    (tmp_path / "other.sqlite").write_bytes(b"no database")
    with pytest.raises(DataError, match="holds no feedback of `tagpr serve`"):
        read_human_pairs(tmp_path / "other.sqlite")
