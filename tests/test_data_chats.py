"""PersonaMem v1 and v2 and PrefEval's MCQ: small files in the exact form of the benchmarks', and their baselines."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tagpr.data.check import check
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.registry import guess_reader
from tagpr.data.inputs import data_fingerprints
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.errors import DataError
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.experiments.compare import Row, baselines_of_leaks
from tagpr.systems.options import FirstOption
from tagpr.systems.protocol import NoOptions
from tagpr.systems.registry import load_system
from tagpr.tasks import load_task
from tagpr.tasks.metrics import score_one
from tagpr.tasks.rubric_target import RubricTarget

CHAT = [
    {"role": "system", "content": "Current user persona: Ann, who sleeps badly."},
    {"role": "user", "content": "User: I gave up coffee."},
    {"role": "assistant", "content": "Assistant: Tea then."},
    {"role": "user", "content": "User: Later than the question."},
]
V1 = [
    "persona_id",
    "question_id",
    "question_type",
    "topic",
    "user_question_or_message",
    "correct_answer",
    "all_options",
]
V1 += ["shared_context_id", "end_index_in_shared_context"]
OPTIONS = ["Coffee (strong)", "Green tea,\nas you gave up coffee", "Juice", "Mate"]


def write_csv(path: Path, header: list[str], *rows: dict[str, object]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


def v1_row(**changes: object) -> dict[str, object]:
    options = "\n".join(f"({letter}) {text}" for letter, text in zip("abcd", OPTIONS, strict=True))
    row = {"persona_id": 3, "question_id": "q-1", "question_type": "recall", "topic": "drinks", "all_options": options}
    row |= {"user_question_or_message": "What should I drink?", "correct_answer": "(b)"}
    return row | {"shared_context_id": "c1", "end_index_in_shared_context": 3} | changes


def v1(folder: Path, size: str = "32k", **changes: object) -> Path:
    (folder / f"shared_contexts_{size}.jsonl").write_text(json.dumps({"c1": CHAT}) + "\n")
    return write_csv(folder / f"questions_{size}.csv", V1, v1_row(**changes))


@pytest.mark.parametrize("size", ["32k", "128k", "1M"])
def test_personamem_v1(size, tmp_path) -> None:
    path = v1(tmp_path, size)
    assert check(path).task == "personamem" and check(path).ok
    reader = guess_reader(path)
    assert reader.name == "personamem-v1"
    (example,) = reader.read(path, Source(load_task("personamem")))
    assert (example.user_id, example.input, example.target) == ("3", "What should I drink?", "(b)")
    assert [example.fields[f"option{n}"] for n in (1, 2, 3, 4)] == OPTIONS
    assert [dict(item.fields) for item in example.profile] == [
        {"user": CHAT[0]["content"], "assistant": ""},
        {"user": CHAT[1]["content"], "assistant": CHAT[2]["content"]},
    ]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shared_context_id": "c9"}, "'c9' is not among the shared contexts"),
        ({"end_index_in_shared_context": 9}, "is beyond the 4 messages"),
        ({"all_options": "(a) x"}, "must list (a)"),
        ({"all_options": "(a) x (b) y"}, "2 options; task personamem has the labels"),
        ({"correct_answer": "(e)"}, "answer '(e)' is none of (a), (b), (c), (d)"),
    ],
)
def test_a_bad_question_is_one_line(changes, says, tmp_path) -> None:
    path = v1(tmp_path, **changes)
    with pytest.raises(DataError) as raised:
        guess_reader(path).read(path, Source(load_task("personamem")))
    assert says in str(raised.value) and str(raised.value).startswith(f"{path}:2: ")


def test_v1_without_its_contexts_says_what_is_missing(tmp_path) -> None:
    path = v1(tmp_path)
    (tmp_path / "shared_contexts_32k.jsonl").unlink()
    with pytest.raises(DataError, match=r"no shared_contexts_32k\.jsonl beside it"):
        guess_reader(path).read(path, Source(load_task("personamem")))


V2 = ["persona_id", "user_query", "correct_answer", "incorrect_answers", "chat_history_32k_link", "preference"]


def v2(folder: Path, link: str = "data/chat_history_32k/p3.json", **changes: object) -> Path:
    (folder / "data/chat_history_32k").mkdir(parents=True)
    (folder / "benchmark/text").mkdir(parents=True)
    (folder / "data/chat_history_32k/p3.json").write_text(json.dumps({"metadata": {}, "chat_history": CHAT}))
    row = {
        "persona_id": 3,
        "user_query": str({"role": "user", "content": "What's to drink?"}),
        "correct_answer": OPTIONS[1],
    }
    row |= {"incorrect_answers": str([OPTIONS[0], *OPTIONS[2:]]), "chat_history_32k_link": link, "preference": "tea"}
    return write_csv(folder / "benchmark/text/benchmark.csv", V2, row, row | changes)


def test_personamem_v2_shuffles_as_the_benchmark_does(tmp_path) -> None:
    path = v2(tmp_path)
    reader = guess_reader(path)
    assert reader.name == "personamem-v2"
    examples = reader.read(path, Source(load_task("personamem")))
    for number, example in enumerate(examples):
        options = [OPTIONS[1], OPTIONS[0], *OPTIONS[2:]]
        Random(42 + number).shuffle(options)
        assert [example.fields[f"option{n}"] for n in (1, 2, 3, 4)] == options
        assert example.target == f"({'abcd'[options.index(OPTIONS[1])]})"
    assert len(examples) == 2 and examples[0].input == "What's to drink?" and len(examples[0].profile) == 3
    assert examples[0].profile[1].fields["assistant"] == "Assistant: Tea then."


def test_personamem_v2_asked_in_its_own_form_and_as_text(tmp_path) -> None:
    """The letter in a box, of the same shuffled options; or no options at all, and the preference for the judges."""
    path = v2(tmp_path)
    lettered = guess_reader(path).read(path, Source(load_task("personamem")))
    card = load_task("personamem-v2")
    boxed = guess_reader(path).read(path, Source(card))
    assert check(path).task == "personamem-v2" and check(path).ok
    for example, same in zip(boxed, lettered, strict=True):
        assert example.target == f"\\boxed{{{same.target[1]}}}" and example.fields == same.fields
    (first, _) = guess_reader(path).read(path, Source(load_task("personamem-v2-text")))
    assert (first.input, first.fields) == ("What's to drink?", {}) and first.profile == lettered[0].profile
    assert RubricTarget.from_text(first.target) == RubricTarget("What's to drink?", "tea")
    assert "tea" not in repr(replace(first, target=None)).lower().replace("tea then", "")
    bare = json.dumps(CHAT)  # the histories are also met without the object around them
    (tmp_path / "data/chat_history_32k/bare.json").write_text(bare)
    path.write_text(path.read_text().replace("p3.json", "bare.json"))
    assert guess_reader(path).read(path, Source(card))[0].profile == lettered[0].profile


@pytest.mark.parametrize(
    ("task", "answer", "right"),
    [  # the target is the second option's letter
        ("personamem-v2", "So \\boxed{a}? No: \\boxed{ B }.", True),
        ("personamem-v2", "\\boxed{b}, or rather \\boxed{c}", False),
        ("personamem-v2", "b", False),
        ("personamem-v2", "\\boxed{(b)}", False),
        ("personamem-v2", "\\boxed{b} \\boxed{b", False),
        ("personamem", "(b)", True),
        ("personamem", "As (a) is coffee:\n<final_answer> (B)</final_answer>", True),
        ("personamem", "<final_answer>b", True),
        ("personamem", "It is (b), a tea.", True),
        ("personamem", "(a) or (b)", False),
        ("personamem", "<final_answer>(c)", False),
        ("personamem", "neither", False),
    ],
)
def test_an_answer_is_read_as_the_benchmarks_evaluator_reads_it(task, answer, right) -> None:
    card = load_task(task)
    assert score_one(card, answer, card.labels[1]) == {"accuracy": float(right)}


@pytest.mark.parametrize(
    ("task", "changes", "says"),
    [
        ("personamem-v2", {"user_query": "What?"}, "field 'user_query' is no Python literal"),
        ("personamem-v2", {"user_query": "['What?']"}, "field 'user_query' must be {'role': ..., 'content': text}"),
        ("personamem-v2", {"incorrect_answers": "{}"}, "field 'incorrect_answers' must be a list of texts"),
        ("personamem-v2", {"incorrect_answers": "['one']"}, "2 options; task personamem-v2 has the labels"),
        ("personamem-v2", {"correct_answer": ""}, "field 'correct_answer' is"),
        ("personamem-v2-text", {"preference": ""}, "field 'groundtruth_preference' is missing"),
    ],
)
def test_a_bad_row_of_v2_is_one_line(task, changes, says, tmp_path) -> None:
    path = v2(tmp_path, **changes)
    with pytest.raises(DataError) as raised:
        guess_reader(path).read(path, Source(load_task(task)))
    assert says in str(raised.value) and str(raised.value).startswith(f"{path}:4: ")  # the first row has two lines


def test_a_bad_mcq_of_prefeval_is_one_line(tmp_path) -> None:
    path = tmp_path / "drinks.json"
    path.write_text(json.dumps([{"preference": "p", "question": "q", "classification_task_options": "tea"}]))
    with pytest.raises(DataError, match=r"drinks\.json:1: field 'classification_task_options' must be a list of texts"):
        guess_reader(path).read(path, Source(load_task("prefeval-mcq")))


@pytest.mark.parametrize("link", ["data/none.json", "../secret.json", "/etc/passwd"])
def test_a_history_outside_the_dataset_is_refused(link, tmp_path) -> None:
    path = v2(tmp_path / "dataset", link)
    (tmp_path / "secret.json").write_text(json.dumps({"chat_history": CHAT}))
    with pytest.raises(DataError, match="chat history"):
        guess_reader(path).read(path, Source(load_task("personamem")))


def test_prefeval_mcq_and_baselines_that_read_nobody(tmp_path) -> None:
    record = {"preference": "I avoid coffee.", "question": "What to drink?", "explanation": "e"}
    record |= {"violation_probability": "0.7", "classification_task_options": [OPTIONS[1], "Coffee", "Juice", "Mate"]}
    path = tmp_path / "drinks.json"
    path.write_text(json.dumps([record] * 8))
    source = SourceSettings(task="prefeval-mcq", path=str(path), zero_shot=True)
    splits = load_splits(DataSettings(sources=(source,)), 0, Path())["prefeval-mcq"]
    assert len(splits.heldout) == 8 and not splits.train
    assert {example.profile[0].fields["user"] for example in splits.heldout} == {"I avoid coffee."}
    targets = {example.target for example in splits.heldout}
    assert len(targets) > 1  # the right option does not always stand first
    for example in splits.heldout:
        place = splits.task.labels.index(example.target) + 1
        assert example.fields[f"option{place}"] == OPTIONS[1]
    rows = {
        baseline.name: baseline.predictions["prefeval-mcq"]
        for baseline in trivial_baselines({"prefeval-mcq": splits})
        if "option" in baseline.name
    }
    assert set(rows) == {"first-option", "shortest-option", "longest-option"}
    right = {name: [row.scores["accuracy"] for row in found] for name, found in rows.items()}
    assert right["longest-option"] == [1.0] * 8 and right["shortest-option"] == [0.0] * 8
    assert right["first-option"] == [float(example.target == "(a)") for example in splits.heldout]
    listed = [Row("rag", "rag", load_system("rag"), NoOptions()), Row("x", "first-option", FirstOption, NoOptions())]
    added = baselines_of_leaks(listed, {"prefeval-mcq": splits})  # in every table of `tagpr compare` too
    assert [row.name for row in added] == ["shortest-option", "longest-option", "zero-shot"]
    without = [replace(example, fields={}) for example in splits.heldout]
    rest = baselines_of_leaks([], {"prefeval-mcq": replace(splits, heldout=without)})
    assert [row.name for row in rest] == ["zero-shot"]  # no options to look at; still a table of a benchmark that leaks
    assert not baselines_of_leaks(
        [], {"package-section": replace(splits, heldout=without, task=load_task("package-section"))}
    )


def amazon(folder: Path) -> Path:
    review = {"rating": 5, "title": "t", "text": "words", "asin": "A", "timestamp": 0}
    row = {"user_id": "u", "profile": [review], "data": review | {"text": "more words"}}
    (folder / "meta.jsonl").write_text(json.dumps({"asin": "A", "title": "T", "description": "d"}) + "\n")
    (folder / "main.jsonl").write_text(json.dumps(row) + "\n")
    return folder / "main.jsonl"


def own(folder: Path) -> Path:
    (folder / "reader.py").write_text(
        "class Mine:\n    name = says = 'mine'\n    def guess(self, path): return 0.0\n"
        "    def read(self, path, source): return []\n"
        "    def also_reads(self, path): return [path.with_name('beside.txt')]\n"
    )
    (folder / "beside.txt").write_text("words")
    (folder / "mine.txt").write_text("words")
    return folder / "mine.txt"


@pytest.mark.parametrize(
    ("make", "format"), [(v1, "auto"), (v2, "auto"), (amazon, "auto"), (v2, "personamem-v2"), (own, "reader.py:Mine")]
)
def test_what_a_reader_reads_beside_the_questions_counts_as_data(tmp_path, make, format):
    """An edited history makes the data stage again, though the questions that name it are as before."""
    path = make(tmp_path)
    settings = DataSettings(
        sources=(SourceSettings(task="personamem", path=str(path.relative_to(tmp_path)), format=format),)
    )
    before = data_fingerprints(settings, tmp_path)
    (beside,) = (name for name in before if (tmp_path / name) != path and not name.endswith(".py"))
    (tmp_path / beside).write_text((tmp_path / beside).read_text() + " ")
    assert data_fingerprints(settings, tmp_path) != before
