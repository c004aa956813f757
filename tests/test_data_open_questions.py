"""LaMP-QA, PrefEval's open forms, LongMemEval's preferences, DPL's reviews: small files in their exact form."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tagpr.data.check import check
from tagpr.data.formats.protocol import Source
from tagpr.data.formats.registry import guess_reader
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.errors import DataError
from tagpr.tasks import Example, load_task
from tagpr.tasks.rubric_target import Aspect, RubricTarget


def lamp_qa(**changes: object) -> dict[str, object]:
    aspect = {"aspect": "Lenses for portraits", "reason": "asks for portraits of a child", "evidence": "my daughter"}
    profile = [
        {"id": "p1", "text": "Which camera? For my daughter.", "category": "photo"},
        {"id": "p2", "text": "Film?"},
    ]
    row = {"id": "q1", "question": "Which lens should I buy?", "profile": profile, "category": "photo"}
    return row | {"narrative": "A parent who takes portraits.", "rubric_aspects": [aspect]} | changes


EXPLICIT = {
    "preference": "I avoid coffee.",
    "question": "What should I drink in Rome?",
    "explanation": "Espresso is usual.",
}
CHOICES = EXPLICIT | {
    "implicit_query": "What wakes me up?",
    "options": ["Espresso", "Green tea"],
    "aligned_op": "Green tea",
    "conversation": {
        "query": "What wakes me up?",
        "assistant_options": "1. Espresso\n2. Green tea",
        "user_selection": "The second.",
        "assistant_acknowledgment": "Green tea it is.",
    },
}
PERSONA = EXPLICIT | {
    "persona": "A nurse.",
    "conversation": {
        "10": {"user": "And after work?", "assistant": "Sleep."},
        "0": {"user": "Coffee makes me shake.", "assistant": "I see."},
        "1": {"user": "What helps at night?", "assistant": "Light."},
    },
}


def memory(**changes: object) -> dict[str, object]:
    sessions = [
        [{"role": "user", "content": "Later."}, {"role": "assistant", "content": "Yes."}],
        [
            {"role": "user", "content": "I edit in Premiere.", "has_answer": True},
            {"role": "assistant", "content": "Good."},
        ],
    ]
    row = {"question_id": "m1", "question_type": "single-session-preference", "question": "Tips for editing?"}
    row |= {"answer": "The user would prefer tips for Premiere.", "question_date": "2023/05/30 (Tue) 10:00"}
    row |= {"haystack_session_ids": ["s2", "s1"], "haystack_sessions": sessions, "answer_session_ids": ["s1"]}
    return row | {"haystack_dates": ["2023/05/25 (Thu) 20:21", "2023/05/20 (Sat) 02:21"]} | changes


def read(path: Path, content: object, task: str) -> list[Example]:
    path.write_text(json.dumps(content), encoding="utf-8")
    found = guess_reader(path).read(path, Source(load_task(task)))
    return [example for example in found if isinstance(example, Example)]


def test_lamp_qa_keeps_rubric_and_narrative_for_the_judge(tmp_path) -> None:
    (example,) = read(tmp_path / "test.json", [lamp_qa()], "lamp-qa")
    assert (example.id, example.user_id, example.input) == ("q1", "q1", "Which lens should I buy?")
    assert [item.fields for item in example.profile] == [
        {"text": "Which camera? For my daughter.", "category": "photo"},
        {"text": "Film?"},
    ]
    aspect = Aspect("Lenses for portraits", "asks for portraits of a child")
    assert RubricTarget.from_text(example.target or "") == RubricTarget(
        "Which lens should I buy?", "A parent who takes portraits.", (aspect,)
    )
    shown = json.dumps(
        [*example.fields.values(), example.input, *(list(item.fields.values()) for item in example.profile)]
    )
    assert "parent" not in shown and "portraits" not in shown  # what a system is given


@pytest.mark.parametrize(
    "config", ["Art_and_Entertainment", "Lifestyle_and_Personal_Development", "Society_and_Culture"]
)
def test_the_three_configs_of_lamp_qa_from_the_hub(config, monkeypatch) -> None:
    import datasets

    def load(name: str, asked: str, split: str) -> datasets.Dataset:
        assert (name, asked, split) == ("alireza7/LaMP-QA", config, "test")
        return datasets.Dataset.from_list([lamp_qa(category=config)])

    monkeypatch.setattr(datasets, "load_dataset", load)
    path = f"hub:alireza7/LaMP-QA/{config}/test"
    source = SourceSettings(task="lamp-qa", path=path, format="lamp-qa", zero_shot=True)
    (example,) = load_splits(DataSettings(sources=(source,)), 0, Path())["lamp-qa"].heldout
    assert example.input == "Which lens should I buy?" and len(example.profile) == 2
    assert check(Path(path), "lamp-qa", format="lamp-qa").ok


def test_prefeval_in_its_three_forms(tmp_path) -> None:
    (explicit,) = read(tmp_path / "drinks.json", [EXPLICIT], "prefeval")
    assert [item.fields for item in explicit.profile] == [{"user": "I avoid coffee.", "assistant": ""}]
    wanted = RubricTarget("What should I drink in Rome?", "I avoid coffee.")
    assert RubricTarget.from_text(explicit.target or "") == wanted
    (choices,) = read(tmp_path / "drinks.json", [CHOICES], "prefeval")
    assert [item.fields["user"] for item in choices.profile] == ["What wakes me up?", "The second."]
    assert choices.profile[1].fields["assistant"] == "Green tea it is."
    (persona,) = read(tmp_path / "drinks.json", [PERSONA], "prefeval")
    said = [item.fields["user"] for item in persona.profile]
    assert said == ["Coffee makes me shake.", "What helps at night?", "And after work?"]  # by number, not by name
    assert {choices.target, persona.target} == {explicit.target}
    assert len({explicit.user_id, choices.user_id, persona.user_id}) == 3
    for example in (choices, persona):
        assert all("I avoid coffee" not in text for item in example.profile for text in item.fields.values())


def test_longmemeval_reads_its_preference_questions_in_time_order(tmp_path) -> None:
    fact = memory(question_id="m2", question_type="temporal-reasoning")
    (example,) = read(tmp_path / "longmemeval_s.json", [fact, memory()], "longmemeval")
    assert example.id == "m1" and example.date == "2023-05-30"
    assert [(item.date, item.fields["user"]) for item in example.profile] == [
        ("2023-05-20", "I edit in Premiere."),
        ("2023-05-25", "Later."),
    ]
    target = RubricTarget.from_text(example.target or "")
    assert target == RubricTarget("Tips for editing?", "The user would prefer tips for Premiere.")
    with pytest.raises(DataError, match="no question of type single-session-preference"):
        read(tmp_path / "longmemeval_s.json", [fact], "longmemeval")


def review(asin: str, text: str, when: int) -> dict[str, object]:
    return {"rating": 4.0, "title": f"On {asin}", "text": text, "asin": asin, "timestamp": when}


def test_amazon_reviews_as_dpl_has_them(tmp_path) -> None:
    main = {
        "user_id": "U1",
        "profile": [review("A1", "Fine.", 1_500_000_000_000), review("A9", "Dull.", 1_510_000_000_000)],
    }
    main["data"] = review("A2", "I liked the second half.", 1_600_000_000_000)
    path = tmp_path / "Books_main_test.jsonl"
    path.write_text(json.dumps(main) + "\n")
    with pytest.raises(DataError, match="no file of its products beside it"):
        guess_reader(path).read(path, Source(load_task("amazon-review")))
    products = [
        {"asin": "A1", "title": "One", "description": ["First."]},
        {"asin": "A2", "title": "Two", "description": []},
    ]
    (tmp_path / "Books_meta_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in products))
    reader = guess_reader(path)
    (example,) = reader.read(path, Source(load_task("amazon-review")))
    assert isinstance(example, Example) and reader.name == "amazon-dpl"
    assert (example.user_id, example.target, example.date) == ("U1", "I liked the second half.", "2020-09-13T12:26:40")
    assert example.fields == {"rating": "4", "asin": "A2", "product": "Two", "description": "", "title": "On A2"}
    assert [(item.fields["product"], item.fields["text"]) for item in example.profile] == [
        ("One", "Fine."),
        ("(unknown product)", "Dull."),
    ]


@pytest.mark.parametrize(
    ("task", "row", "says"),
    [
        ("lamp-qa", lamp_qa(rubric_aspects=[]), "field 'rubric_aspects' must be a list"),
        ("lamp-qa", lamp_qa(rubric_aspects=[{"reason": "r"}]), "field 'aspect' is missing"),
        ("lamp-qa", lamp_qa(profile="none"), "field 'profile' must be a list"),
        ("prefeval", EXPLICIT | {"question": ""}, "field 'question' is empty"),
        ("prefeval", EXPLICIT | {"conversation": [1]}, "field 'conversation' must be an object"),
        ("prefeval", EXPLICIT | {"conversation": {"first": {}}}, "turn 'first' must be a number"),
        ("longmemeval", memory(haystack_dates=["2023/05/25"]), "must have one date for each of the 2 sessions"),
        ("longmemeval", memory(haystack_dates=["soon", "2023/05/20"]), "session 0: 'soon' is no date"),
        ("longmemeval", memory(haystack_sessions=[[{"role": "user"}], []]), "must be {role, content}"),
    ],
)
def test_a_bad_record_is_one_line_with_its_place(task, row, says, tmp_path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(DataError, match=r"bad\.json:1: ") as caught:
        guess_reader(path).read(path, Source(load_task(task)))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def amazon(folder: Path, *rows: object) -> Path:
    (folder / "meta.jsonl").write_text(json.dumps({"asin": "A1", "title": "One", "description": None}) + "\n")
    path = folder / "main.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "field 'data' must be a review"),
        ({"rating": 4, "title": "t", "text": "x", "timestamp": 0}, "field 'asin' is missing"),
        (review("A1", "", 0), "the review to write has no text"),
        (review("A1", "x", 0) | {"timestamp": "soon"}, "field 'timestamp': 'soon' is no number of milliseconds"),
    ],
)
def test_a_bad_review_is_one_line_with_its_place(data, says, tmp_path) -> None:
    good = {"user_id": "U1", "profile": [], "data": review("A1", "Fine.", 0)}
    path = amazon(tmp_path, good, {**good, "data": data})
    with pytest.raises(DataError, match=r"main\.jsonl:2: ") as caught:
        guess_reader(path).read(path, Source(load_task("amazon-review")))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    found = check(amazon(tmp_path, good))
    assert found.task == "amazon-review" and found.ok


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("test.json", lamp_qa(), "lamp-qa"),
        ("explicit.json", EXPLICIT, "prefeval"),
        ("choices.json", CHOICES, "prefeval"),
        ("longmemeval_s.json", memory(), "longmemeval"),
        ("options.json", EXPLICIT | {"classification_task_options": ["a", "b", "c", "d"]}, "prefeval-mcq"),
    ],
)
def test_data_check_reads_a_benchmarks_file_as_its_own_task(name, content, task, tmp_path) -> None:
    (tmp_path / name).write_text(json.dumps([content]))
    found = check(tmp_path / name)
    assert found.task == task and found.ok


def test_an_open_question_is_held_out_and_its_target_taken_away(tmp_path) -> None:
    path = tmp_path / "test.json"
    path.write_text(json.dumps([lamp_qa(id=f"q{i}") for i in range(3)]))
    source = SourceSettings(task="lamp-qa", path=str(path), zero_shot=True)
    splits = load_splits(DataSettings(sources=(source,)), 0, Path())["lamp-qa"]
    assert len(splits.heldout) == 3 and not splits.train
    assert "portraits" not in repr(replace(splits.heldout[0], target=None))
