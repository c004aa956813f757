"""Readers on small files in the official formats, written here; and on the real PGraphRAG files where they are."""

import json
import os
from pathlib import Path

import pytest

from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.data.check import check, render_check
from tagpr.data.formats.lamp import lamp_examples
from tagpr.data.formats.pgraphrag import pgraphrag_examples
from tagpr.data.rejects import Rejects
from tagpr.errors import DataError
from tagpr.tasks import load_task

SHARED = Path(os.environ.get("TAGPR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
TAGS = ", ".join(load_task("lamp-2").labels[::-1])

LAMP = {
    "lamp-1": (
        'For an author who has written the paper with the title "Foxes: a \\"new\\" look", which reference is related?'
        ' Just answer with [1] or [2] without explanation. [1]: "Cities" [2]: "Plates"',
        {"title": "Old", "abstract": "text"},
        "[1]",
        {"title": 'Foxes: a \\"new\\" look', "option1": "Cities", "option2": "Plates"},
    ),
    "lamp-2": (
        "Which tag does this movie relate to among the following tags? Just answer with the tag name without further"
        f" explanation. tags: [{TAGS}] description: A man: alone.",
        {"description": "Robots.", "tag": "sci-fi"},
        "dystopia",
        {"tags": TAGS, "description": "A man: alone."},
    ),
    "lamp-3": (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without"
        " further explanation. review: nice: very",
        {"text": "bad", "score": "1"},
        "4",
        {"text": "nice: very"},
    ),
    "lamp-4": ("Generate a headline for the following article: x", {"text": "t", "title": "h"}, "H", {"text": "x"}),
    "lamp-5": (
        "Generate a title for the following abstract of a paper: x",
        {"title": "h", "abstract": "a"},
        "T",
        {"abstract": "x"},
    ),
    "lamp-7": (
        "Paraphrase the following tweet without any explanation before or after it: so: yes",
        {"text": "tw"},
        "yes!",
        {"neutral": "so: yes"},
    ),
}


def write_lamp(folder: Path, split: str, name: str, number: int = 3, **more) -> Path:
    text, entry, gold, _ = LAMP[name]
    questions = [
        {"id": f"{i}0", "input": text, "profile": [{**entry, "id": str(j), **more} for j in range(4)]}
        | ({"user_id": i % 2} if more else {})
        for i in range(number)
    ]
    golds = {"task": name, "golds": [{"id": f"{i}0", "output": gold} for i in range(number)]}
    path = folder / f"{split}_questions.json"
    path.write_text(json.dumps(questions, indent=1))
    (folder / f"{split}_outputs.json").write_text(json.dumps(golds))
    return path


@pytest.mark.parametrize("name", LAMP)
def test_official_lamp_files(tmp_path, name):
    write_lamp(tmp_path, "train", name)
    write_lamp(tmp_path, "dev", name, date="2016-1-9")
    source = SourceSettings(task=name, path=".", heldout_path=".", format="lamp")
    splits = load_splits(DataSettings(sources=(source,)), 0, tmp_path)[name]
    assert (len(splits.train), len(splits.heldout)) == (3, 3)
    example = splits.train[0]
    assert example.fields == LAMP[name][3] and example.target == LAMP[name][2] and len(example.profile) == 4
    assert example.user_id == example.id
    dated = splits.heldout[0]
    assert dated.user_id == "0" and dated.profile[0].date == "2016-01-09"
    found = check(tmp_path / "train_questions.json")
    assert (found.format, found.task, found.ok) == ("lamp", name, True)


def test_lamp_problems_name_the_line_of_the_record(tmp_path):
    path = write_lamp(tmp_path, "train", "lamp-3")
    records = json.loads(path.read_text())
    records[1]["profile"][2] = {"id": "2", "text": "no score"}
    path.write_text(json.dumps(records, indent=1))
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if '"10"' in text) - 1
    with pytest.raises(DataError, match=rf"train_questions.json:{line}: profile item 2: field 'score' is missing"):
        lamp_examples(path, load_task("lamp-3"), Rejects())
    path = write_lamp(tmp_path, "train", "lamp-3")
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match="cut off"):
        lamp_examples(path, load_task("lamp-3"), Rejects())


def test_tags_that_differ_from_the_card_are_refused(tmp_path):
    path = write_lamp(tmp_path, "train", "lamp-2")
    path.write_text(path.read_text().replace("dark comedy", "noir"))
    with pytest.raises(DataError, match="bracket of tags differs"):
        lamp_examples(path, load_task("lamp-2"), Rejects())


def test_missing_golds_and_test_splits(tmp_path):
    path = write_lamp(tmp_path, "train", "lamp-4")
    outputs = tmp_path / "train_outputs.json"
    golds = json.loads(outputs.read_text())
    golds["golds"].append({"id": "zz", "output": "x"})
    outputs.write_text(json.dumps(golds))
    with pytest.raises(DataError, match="1 gold answers have no question"):
        lamp_examples(path, load_task("lamp-4"), Rejects())
    outputs.unlink()
    assert {example.target for example in lamp_examples(path, load_task("lamp-4"), Rejects())} == {None}
    source = SourceSettings(task="lamp-4", path="train_questions.json")
    with pytest.raises(DataError, match="put the outputs file beside it"):
        load_splits(DataSettings(sources=(source,)), 0, tmp_path)


LONGLAMP = {
    "longlamp-review": ({"reviewerId": "r"}, {"description": "d", "overall": 4.0, "reviewText": "t", "summary": "s"}),
    "longlamp-abstract": ({"name": "n"}, {"abstract": "a", "id": "1", "title": "t", "year": 2012}),
    "longlamp-topic": ({"author": "a"}, {"author": "a", "content": "c", "id": "1", "summary": "s"}),
}


@pytest.mark.parametrize("name", LONGLAMP)
@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_longlamp_records(tmp_path, name, ending):
    who, entry = LONGLAMP[name]
    records = [{**who, "input": f"Write it {i}", "output": f"gold {i}", "profile": [entry, entry]} for i in range(3)]
    path = tmp_path / f"train.{ending}"
    if ending == "json":
        path.write_text(json.dumps(records))
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(records), path)
    examples = lamp_examples(path, load_task(name), Rejects())
    assert [example.target for example in examples] == ["gold 0", "gold 1", "gold 2"]
    assert {example.user_id for example in examples} == set(who.values())
    assert check(path).task == name and check(path).ok
    if name == "longlamp-abstract":
        assert examples[0].profile[0].date == "2012-01-01"


def test_longlamp_from_the_hub(tmp_path, monkeypatch):
    import datasets

    who, entry = LONGLAMP["longlamp-review"]
    asked = []

    def load(name, config, split):
        asked.append((name, config, split))
        rows = [{**who, "input": f"{split} {i}", "output": f"gold {i}", "profile": [entry]} for i in range(3)]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    path = "hub:LongLaMP/LongLaMP/product_review_user"
    source = SourceSettings(task="longlamp-review", path=f"{path}/train", heldout_path=f"{path}/val")
    settings = DataSettings(sources=(source,), folder="elsewhere")  # which is where files lie, not the hub
    splits = load_splits(settings, 0, tmp_path)["longlamp-review"]
    assert [example.input for example in splits.heldout] == ["val 0", "val 1", "val 2"]
    assert splits.train[0].profile[0].fields["overall"] == "4" and len(splits.train) == 3
    assert ("LongLaMP/LongLaMP", "product_review_user", "val") in asked
    assert check(Path(f"{path}/val")).task == "longlamp-review"

    def refuse(*_, **__):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"review_user/train: could not be downloaded from the hub \(no network\)"):
        load_splits(DataSettings(sources=(source,)), 0, tmp_path)
    short = source.model_copy(update={"path": "hub:LongLaMP/train"})
    with pytest.raises(DataError, match="hub:LongLaMP/train: write it as hub:OWNER/NAME/CONFIG/SPLIT"):
        load_splits(DataSettings(sources=(short,)), 0, tmp_path)


def test_posts_in_chinese(tmp_path):
    rows = [
        {"user_id": u, "title": f"标题{i}", "content": f"这家店很好吃{i}", "neutral": f"好{i}", "date": f"2024-05-0{i}"}
        for u in "ab"
        for i in range(1, 6)
    ]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for name, given, asked in [
        ("post-content", "title", "content"),
        ("post-title", "content", "title"),
        ("post-paraphrase", "neutral", "content"),
    ]:
        source = SourceSettings(task=name, path="posts.jsonl")
        splits = load_splits(DataSettings(sources=(source,)), 0, tmp_path)[name]
        example = splits.heldout[0]
        assert splits.report.reader == "posts" and len(splits.heldout) == 2 and len(example.profile) == 4
        assert (example.input, example.target) == (rows[4][given], rows[4][asked])
        assert example.target not in example.fields.values()
    assert "users: 2\n" in render_check(check(tmp_path / "posts.jsonl"))


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_with_a_field_mapping(tmp_path, ending):
    rows = [{"who": u, "text": f'said "{i}", twice', "head": f"h{i}"} for u in "ab" for i in range(4)]
    path = tmp_path / f"mine.{ending}"
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        import csv

        with open(path, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if ending == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    names = {"user_id": "who", "input": "text", "output": "head"}
    source = SourceSettings(task="package-synopsis", path=path.name, fields=names)
    splits = load_splits(DataSettings(sources=(source,)), 0, tmp_path)["package-synopsis"]
    assert len(splits.train) == 6 and len(splits.heldout) == 2
    assert splits.heldout[0].input.startswith('said "')
    with pytest.raises(DataError, match=rf"mine.{ending}:\d+: field 'user_id' is missing \(found: who, text, head\)"):
        load_splits(DataSettings(sources=(SourceSettings(task="package-synopsis", path=path.name),)), 0, tmp_path)


def test_csv_rows_of_the_wrong_width_are_named(tmp_path):
    source = SourceSettings(task="package-synopsis", path="mine.csv")
    for row, said in (
        ("a,b", "has 2 columns, the header has 3; put ',' for fields that are empty, and quote"),
        ("a,b,c,d", "has 4 columns, the header has 3; quote fields that hold ','"),
    ):
        (tmp_path / "mine.csv").write_text(f"user_id,input,output\na,b,c\n{row}\n")
        with pytest.raises(DataError, match=rf"mine.csv:3: {said}"):
            load_splits(DataSettings(sources=(source,)), 0, tmp_path)


def test_pgraphrag_histories(tmp_path):
    def review(i, pid):
        return {"rating": i, "title": f"title {i}", "text": f"text {i}", "pid": pid}

    records = [{"id": "x", "profile": [review(1, "P"), review(2, "Q")]}, {"id": "y", "profile": [review(3, "P")]}]
    path = tmp_path / "amazon_dev.json"
    path.write_text(json.dumps(records))
    for history, sizes in {"none": [0, 0], "own": [1, 0], "neighbours": [1, 1], "both": [2, 1]}.items():
        examples = pgraphrag_examples(path, load_task("pgraphrag-title"), Rejects(), history)
        assert [len(example.profile) for example in examples] == sizes
    assert examples[0].target == "title 1" and examples[0].fields == {"text": "text 1"}
    assert examples[1].profile[0].id == "neighbour:x:0"
    path.write_text(json.dumps([*records, {**records[1], "id": "x"}], indent=1))  # two people of one nickname
    names = [example.user_id for example in pgraphrag_examples(path, load_task("pgraphrag-title"), Rejects(), "both")]
    assert names[:2] == ["x", "y"] and names[2].startswith("x#") and len(names) == 3
    assert pgraphrag_examples(path, load_task("pgraphrag-rating"), Rejects())[0].target == "1"


@pytest.mark.skipif(not (SHARED / "pgraphrag").is_dir(), reason="raw PGraphRAG files are not here (TAGPR_SHARED_DATA)")
@pytest.mark.parametrize(("name", "own"), [("amazon", 126), ("b2w", 148)])
def test_real_pgraphrag_files(name, own):
    for task in ("pgraphrag-title", "pgraphrag-text", "pgraphrag-rating"):
        examples = pgraphrag_examples(SHARED / "pgraphrag" / f"{name}_dev.json", load_task(task), Rejects())
        assert len({example.id for example in examples}) == len(examples)
        assert len(examples) == (2496 if (name, task) == ("amazon", "pgraphrag-text") else 2500)
        assert sum(bool(example.profile) for example in examples) == own


def test_check_of_folders_and_of_lines_in_a_json_file(tmp_path):
    entry = {"rating": 1, "title": "t", "text": "words", "pid": "P"}
    (tmp_path / "b2w_dev.json").write_text(json.dumps([{"id": "x", "profile": [entry, entry]}]))
    assert check(tmp_path).format == "pgraphrag"  # a folder that only has a dev split
    rows = [{"user_id": "u", "input": f"text {i}", "output": "out"} for i in range(3)]
    path = tmp_path / "mine.json"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = check(path)
    assert (found.format, found.counts["items"], found.ok) == ("jsonl", 3, True)
    source = SourceSettings(task="package-synopsis", path="mine.json")
    assert load_splits(DataSettings(sources=(source,)), 0, tmp_path)["package-synopsis"].report.items == 3
