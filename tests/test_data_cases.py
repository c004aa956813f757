"""The small inputs of the public fault reports, if they are here: each gives what it holds, or one clear line."""

import os
from pathlib import Path

import pytest

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.errors import TagPRError

CASES = Path(os.environ.get("TAGPR_SHARED_CASES", Path(__file__).parents[2] / "shared" / "cases"))
CARDS = {"stars_float.jsonl": "stars.yaml", "yesno.jsonl": "yesno.yaml", "longlamp_one_null.jsonl": "longlamp-review"}

READ = {  # file: (records, how they are split)
    "array.json": (8, "random"),
    "array_pretty.json": (8, "random"),
    "bytes.parquet": (6, "random"),
    "date_compact12.jsonl": (8, "time"),
    "date_epoch_float.jsonl": (8, "time"),
    "en.jsonl": (48, "random"),
    "id_partial.jsonl": (4, "random"),
    "ns.parquet": (6, "time"),
    "rtl.jsonl": (48, "random"),
    "sameday_some.jsonl": (60, "time"),
    "stars_float.jsonl": (18, "random"),
    "when.jsonl": (10, "random"),
    "yesno.jsonl": (18, "random"),
    "zh.jsonl": (48, "random"),
}
REFUSED = {
    "badutf.csv": r"badutf.csv:4: not UTF-8",
    "date_firstmissing.jsonl": r"date_firstmissing.jsonl:1: some lines have a date and some have none",
    "dup.csv": r"dup.csv:1: columns 2 and 3 are both named 'input'",
    "header_only.csv": r"header_only.csv: has a header and no rows",
    "longlamp_one_null.jsonl": r"longlamp_one_null.jsonl:2: profile item 7: field 'summary' is missing",
    "nan_text.jsonl": r"nan_text.jsonl:2: field 'output' is empty \(NaN\)",
    "nanfloat.parquet": r"nanfloat.parquet:2: field 'output' is empty \(NaN\)",
}


def load(name: str, on_error: str = "stop"):
    if not CASES.is_dir():
        pytest.skip("the case files are not here (TAGPR_SHARED_CASES)")
    source = SourceSettings(task=CARDS.get(name, "generic-text"), path=name)
    return next(iter(load_splits(DataSettings(sources=(source,), on_error=on_error), 0, CASES).values()))


@pytest.mark.parametrize("name", READ)
def test_good_cases_are_read_whole(name):
    splits = load(name)
    records, split = READ[name]
    assert (splits.report.items, splits.report.records, splits.report.split) == (records, records, split)
    ids = [example.id for example in [*splits.train, *splits.heldout]]
    assert len(set(ids)) == len(ids) and not splits.rejects
    for example in [*splits.train, *splits.heldout]:
        assert example.target and "nan" not in example.target and not example.target.startswith("b'")
        assert example.date is None or example.date.startswith("2024-05-")


@pytest.mark.parametrize("name", REFUSED)
def test_bad_cases_are_one_line(name):
    with pytest.raises(TagPRError, match=REFUSED[name]) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_what_skip_leaves_of_the_bad_ones():
    assert load("date_firstmissing.jsonl", "skip").report.items == 7
    assert load("nan_text.jsonl", "skip").report.items == 7
    assert load("nanfloat.parquet", "skip").report.items == 5
    assert load("longlamp_one_null.jsonl", "skip").report.users == 10
