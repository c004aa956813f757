"""For random users, ids, duplicates and dates: no held-out answer is shown, ids are unique, nothing is lost."""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagpr.data import DataSettings, SourceSettings, Splits, load_splits
from tagpr.data.duplicates import without_leaks
from tagpr.data.inputs import data_fingerprints
from tagpr.data.split import split_examples
from tagpr.errors import DataError
from tagpr.tasks import Example, Interaction, load_task

USERS = st.sampled_from(["a", "a-1", "a%2D1", "1", "a-1-2", "ü"])
IDS = st.one_of(st.none(), st.sampled_from(["0", "1", "2", "1-2", "#0", "#1", "-", "3"]))
TEXTS = st.sampled_from(["one", "two", "three", " three", "four", "five"])
ANSWERS = st.sampled_from(["A", "B", "B ", "C"])
DAYS = st.integers(1, 6)
ROWS = st.lists(st.tuples(USERS, IDS, TEXTS, ANSWERS, DAYS), min_size=2, max_size=30)
TASK = load_task("generic-text")


def assert_nothing_held_out_is_shown(splits: Splits) -> None:
    held = {(e.user_id, e.input.strip(), (e.target or "").strip()) for e in splits.heldout}
    for example in [*splits.train, *splits.heldout]:
        own = example.user_id, example.input.strip(), (example.target or "").strip()
        assert example in splits.heldout or own not in held
        for item in example.profile:
            shown = example.user_id, item.fields["input"].strip(), item.fields["output"].strip()
            assert shown not in held and shown != own
            assert example.date is None or (item.date or "") < example.date


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    dated=st.booleans(),
    held=st.integers(1, 2),
    least=st.integers(0, 2),
    ending=st.sampled_from(["jsonl", "json"]),
)
def test_splits_of_any_items(tmp_path, rows, dated, held, least, ending):
    lines = []
    for user, name, text, answer, day in rows:
        row = {"user_id": user, "input": text, "output": answer}
        row |= {"id": name} if name is not None else {}
        lines.append(row | ({"date": f"2024-05-0{day}"} if dated else {}))
    path = tmp_path / f"mine.{ending}"
    path.write_text("\n".join(map(json.dumps, lines)) if ending == "jsonl" else json.dumps(lines))
    more = {"heldout_per_user": held, "min_history": least}
    source = SourceSettings(task="generic-text", path=path.name, **more)
    try:
        splits = load_splits(DataSettings(sources=(source,), on_error="skip"), 0, tmp_path)["generic-text"]
    except DataError as error:
        assert "no training example" in str(error) or "no held-out example" in str(error)
        return
    examples = [*splits.train, *splits.heldout]
    assert len({e.id for e in examples}) == len(examples)
    assert_nothing_held_out_is_shown(splits)
    # counted independently: ids that stand twice go, then repeats of user, input and answer
    taken: set[tuple[str, str]] = set()
    unique: set[tuple[str, str, str]] = set()
    twice = repeats = 0
    for user, name, text, answer, _ in rows:
        if name is not None and (user, name) in taken:
            twice += 1
            continue
        taken.add((user, name or ""))
        key = user, text.strip(), answer.strip()
        repeats += key in unique
        unique.add(key)
    report = splits.report
    assert (report.items, report.duplicates, report.records) == (len(unique), repeats, len(rows))
    assert sum(row.record for row in splits.rejects) == twice
    # every item is an example or counted as none, with a reason
    nothing = report.no_example
    own = Counter(user for user, _, _ in unique)
    made = Counter(e.user_id for e in examples)
    assert sum(nothing.users.values()) == sum(made[user] == 0 for user in own)
    assert sum(nothing.items.values()) == sum(count - made[user] for user, count in own.items() if made[user])


ITEMS = st.lists(st.tuples(TEXTS, ANSWERS), max_size=6)
RECORDS = st.lists(st.tuples(st.sampled_from("abc"), TEXTS, ANSWERS, ITEMS), min_size=2, max_size=12)


@settings(max_examples=300, deadline=None)
@given(records=RECORDS, official=st.booleans(), seed=st.integers(0, 3))
def test_records_that_bring_their_histories(records, official, seed):
    examples = [
        Example(
            str(number),
            user,
            TASK.name,
            text,
            answer,
            tuple(Interaction(str(i), {"input": x, "output": y}) for i, (x, y) in enumerate(items)),
            fields={"input": text},
        )
        for number, (user, text, answer, items) in enumerate(records)
    ]
    half = len(examples) // 2
    train, heldout = (examples[:half], examples[half:]) if official else split_examples(examples, 0.3, seed)
    left, kept, leaks = without_leaks(TASK, train, heldout)
    assert_nothing_held_out_is_shown(Splits(TASK, left, kept))
    assert kept and len(kept) == len(heldout) and leaks.examples == len(train) - len(left)
    before = sum(len(e.profile) for e in train if e.id in {e.id for e in left}) + sum(len(e.profile) for e in heldout)
    assert leaks.history == before - sum(len(e.profile) for e in left + kept)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40), other=st.binary(max_size=40), which=st.integers(0, 4))
def test_fingerprints_differ_exactly_if_a_file_does(tmp_path, content, other, which):
    names = ("card.yaml", "train_questions.json", "train_outputs.json", "dev_questions.json", "own.py")
    source = SourceSettings(
        task="card.yaml", path="train_questions.json", heldout_path="dev_questions.json", format="own.py:Reader"
    )
    recipe = DataSettings(sources=(source,))
    for name in names:
        (tmp_path / name).write_bytes(content)
    before = data_fingerprints(recipe, tmp_path)
    assert len(before) == len(names) and data_fingerprints(recipe, tmp_path) == before
    (tmp_path / names[which]).write_bytes(other)
    assert (data_fingerprints(recipe, tmp_path) == before) == (content == other)


def test_own_metrics_and_readers_count(tmp_path, monkeypatch):
    card = (
        "name: mine\nkind: text\ndescription: d\ninstruction: i\nentry: '{{ input }} {{ output }}'\n"
        "input_fields: [input]\noutput_field: output\nmetrics: ['own.py:length']\n"
    )
    code = (
        "from tagpr.tasks.metrics import Metric\n\nlength = Metric('length', True, lambda task, answer, target: 1.0)\n"
    )
    (tmp_path / "card.yaml").write_text(card)
    (tmp_path / "own.py").write_text(code)
    (tmp_path / "my_module.py").write_text("class Reader: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = DataSettings(sources=(SourceSettings(task="card.yaml", path="mine.jsonl", format="my_module:Reader"),))
    before = data_fingerprints(recipe, tmp_path)
    assert set(before) == {"card.yaml", "own.py", "mine.jsonl", "my_module:Reader"} and before["my_module:Reader"]
    for name in ("own.py", "my_module.py"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n# edited\n")
        after = data_fingerprints(recipe, tmp_path)
        assert after != before
        before = after


@pytest.mark.parametrize("gone", ["mine.jsonl", "card.yaml"])
def test_a_file_that_is_gone_changes_the_fingerprint(tmp_path, gone):
    source = SourceSettings(task="card.yaml", path="mine.jsonl")
    for name in ("mine.jsonl", "card.yaml"):
        (tmp_path / name).write_text("x")
    before = data_fingerprints(DataSettings(sources=(source,)), tmp_path)
    (tmp_path / gone).unlink()
    assert data_fingerprints(DataSettings(sources=(source,)), tmp_path) != before
