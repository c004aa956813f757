"""Items to examples: nothing leaks, bad lines are named, examples survive a round trip."""

import json
from dataclasses import replace

import pytest

from tagpr.data import DataSettings, SourceSettings, load_splits, read_examples, write_examples
from tagpr.data.corrections import PREFIX, with_corrections
from tagpr.errors import DataError, TagPRError
from tagpr.tasks import load_task


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    return load_splits(DataSettings(), 0, tmp_path_factory.mktemp("run"))


def test_bundled_sample_is_big_enough_and_holds_no_address(bundled):
    for splits in bundled.values():
        assert len(splits.heldout) >= 150 and len(splits.train) >= 2000
        assert len({example.user_id for example in splits.heldout}) == len(splits.heldout)
        labels = set(splits.task.labels)
        assert not labels or {example.target for example in splits.train} == labels
        for example in splits.heldout:
            assert "@debian.org" not in example.input and example.input.strip() and example.target.strip()


def test_no_profile_holds_its_query_or_a_heldout_item(bundled):
    for splits in bundled.values():
        held = {example.id for example in splits.heldout}
        for example in [*splits.train, *splits.heldout]:
            seen = {f"{example.user_id}-{item.id}" for item in example.profile}
            assert example.id not in seen and not seen & held
            assert len(example.profile) >= 3
            assert splits.task.output_field not in example.fields


def test_both_tasks_hold_out_the_same_items_and_the_seed_decides(bundled, tmp_path):
    section, synopsis = bundled.values()
    assert [e.id for e in section.heldout] == [e.id for e in synopsis.heldout]
    again = load_splits(DataSettings(), 0, tmp_path)
    assert again == bundled
    other = load_splits(DataSettings(), 1, tmp_path)
    assert [e.id for e in other["package-section"].heldout] != [e.id for e in section.heldout]


def test_a_correction_makes_no_trained_task_of_one_that_is_only_tested_on(bundled, tmp_path, caplog):
    """Corrections are training examples, and a task with any of those is trained on."""
    tested, trained = (replace(splits, heldout=splits.heldout[:5]) for splits in bundled.values())
    tested = replace(tested, train=[])
    corrected = [
        replace(splits.heldout[0], id=f"{PREFIX}{name}", input="another question", profile=())
        for name, splits in bundled.items()
    ]
    path = tmp_path / "corrections.jsonl"
    write_examples(path, corrected)
    names = list(bundled)
    found = with_corrections(dict(zip(names, (tested, trained), strict=True)), path)
    assert (found[names[0]].train, found[names[0]].report.corrections) == ([], 0)
    assert found[names[1]].report.corrections == 1 and f"1 corrections of task {names[0]} are left out" in caplog.text


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_examples_survive_a_round_trip(bundled, tmp_path, ending):
    examples = bundled["package-section"].heldout[:20]
    path = tmp_path / f"x.{ending}"
    write_examples(path, examples)
    assert read_examples(path) == examples


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def synopsis_settings(**more):
    return DataSettings(sources=(SourceSettings(task="package-synopsis", path="mine.jsonl", **more),))


def test_dated_lines_are_split_by_time(tmp_path):
    rows = [
        {"user_id": user, "input": f"text {day}", "output": f"title {day}", "date": f"2024-1-{day}"}
        for user in ("ann", "bob")
        for day in (9, 3, 12, 7, 1)
    ]
    write_lines(tmp_path / "mine.jsonl", rows)
    splits = load_splits(synopsis_settings(), 0, tmp_path)["package-synopsis"]
    assert splits.report.split == "time"
    assert [example.target for example in splits.heldout] == ["title 12", "title 12"]
    for example in [*splits.train, *splits.heldout]:
        dates = [item.date for item in example.profile]
        assert dates and dates == sorted(dates) and max(dates) < example.date
    assert len(splits.heldout[0].profile) == 4


def test_same_day_items_are_not_each_others_past(tmp_path):
    rows = [{"user_id": "ann", "input": f"t{i}", "output": "o", "date": f"2024-01-0{1 + i // 2}"} for i in range(6)]
    write_lines(tmp_path / "mine.jsonl", rows)
    splits = load_splits(synopsis_settings(), 0, tmp_path)["package-synopsis"]
    for example in [*splits.train, *splits.heldout]:
        assert all(item.date < example.date for item in example.profile)


GOOD = {"user_id": "ann", "input": "some text", "output": "a title"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([json.dumps(GOOD), "{broken"], "mine.jsonl:2: not JSON"),
        ([json.dumps(GOOD), "[1, 2]"], "mine.jsonl:2: must be an object"),
        ([json.dumps({"user_id": "ann", "input": "x"})], "mine.jsonl:1: field 'output' is missing"),
        ([json.dumps({**GOOD, "input": " "})], "mine.jsonl:1: field 'input' is empty"),
        ([json.dumps({**GOOD, "output": ["a"]})], "mine.jsonl:1: field 'output' must be text"),
        ([json.dumps({**GOOD, "date": "yesterday"})], "mine.jsonl:1: field 'date': 'yesterday' is no date"),
        ([json.dumps({**GOOD, "date": "2024-01-01"}), json.dumps(GOOD)], "mine.jsonl:2: some lines have a date"),
        ([json.dumps({**GOOD, "id": "1"}), json.dumps({**GOOD, "id": "1"})], "mine.jsonl:2: duplicate id '1'"),
        ([json.dumps(GOOD)], "has one item and so no history"),
        ([""], "mine.jsonl: the file is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path, lines, complaint):
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_splits(synopsis_settings(), 0, tmp_path)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_skipping_bad_lines_keeps_their_reasons(tmp_path):
    lines = [json.dumps({**GOOD, "input": f"text {i}"}) for i in range(4)] + ["{broken", json.dumps({"user_id": "x"})]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    splits = load_splits(synopsis_settings().model_copy(update={"on_error": "skip"}), 0, tmp_path)["package-synopsis"]
    assert [row.line for row in splits.rejects] == [5, 6]
    assert len(splits.train) + len(splits.heldout) == 4


def test_a_label_outside_the_card_is_named(tmp_path):
    write_lines(tmp_path / "mine.jsonl", [{**GOOD, "output": "kernel"}])
    settings = DataSettings(sources=(SourceSettings(task="package-section", path="mine.jsonl"),))
    with pytest.raises(DataError, match=r"mine.jsonl:1: output 'kernel' is no label"):
        load_splits(settings, 0, tmp_path)


def test_missing_file_and_unbundled_task_are_one_line(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_splits(synopsis_settings(), 0, tmp_path)
    with pytest.raises(TagPRError, match="duplicate task"):
        load_splits(DataSettings(sources=(SourceSettings(task="package-section"),) * 2), 0, tmp_path)
    assert load_task("package-section").output_field == "section"
