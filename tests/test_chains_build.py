"""Stage 0 as a whole: the seven steps, their counts, resuming, and models behind a faulty server."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pydantic import ValidationError

from chains_server import running_server
from tagpr.chains.build import build_chains
from tagpr.chains.filters import accuracy_filter, format_filter, keep_best
from tagpr.chains.grammar import parse_response
from tagpr.chains.judge import read_scores
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import Funnel, read_parquet
from tagpr.chains.tagging import (
    TaggingError,
    apply_inline,
    apply_ranges,
    normalise_name,
    read_ranges,
    split_sentences,
    squeeze,
)
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RecipeError, RunError
from tagpr.progress import StageContext
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Kind
from test_chains_heuristic import label_examples, label_task, text_examples

V = load_vocabulary()


def shown(task, example):
    lines = [f"- {e.fields[task.input_fields[0]]} -> {e.fields[task.output_field]}" for e in example.profile]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "\n".join([*lines, example.input])}]
    return SimpleNamespace(messages=messages, entries=example.profile, cuts={})


def two_tasks(count: int = 40):
    text_task, texts = text_examples(count)
    task = label_task()
    return {"t": task, "s": text_task}, {"t": label_examples(count), "s": texts}


def test_heuristic_chains_and_their_funnel(tmp_path):
    tasks, train = two_tasks()
    for number in range(0, len(train["t"]), 7):  # the text says one label, the user chose another: to be filtered
        example = train["t"][number]
        train["t"][number] = replace(example, target="net" if example.target != "net" else "games")
    seen = []
    settings = ChainSettings(examples_per_task=30)
    funnel = build_chains(
        settings, tasks, train, shown, StageContext(tmp_path, seed=1, progress=lambda *a: seen.append(a))
    )
    counts = {step.step: step for step in funnel.steps}
    assert list(counts) == ["sample", "rollouts", "accuracy_filter", "judge_filter", "tagging", "format_filter", "keep"]
    assert counts["sample"].total == 60 and counts["rollouts"].total == 960
    assert counts["judge_filter"].skipped and counts["tagging"].skipped
    assert 0 < counts["keep"].total < counts["accuracy_filter"].total < 960
    assert counts["accuracy_filter"].notes["wrong answer"] > 0
    rows = read_parquet(tmp_path / "chains.parquet")
    assert len(rows) == counts["keep"].total
    targets = {(name, e.id): e.target for name in train for e in train[name]}
    for row in rows:
        response = parse_response(row["completion"], V)
        assert response.well_formed and response.answer == row["answer"] and len(response.segments) >= 3
        score = correctness(tasks[row["task"]], row["answer"], targets[row["task"], row["example_id"]])
        assert row["score"] == score >= (0.3 if row["task"] == "s" else 1)
        assert row["tags"] == [segment.tag for segment in response.segments]
    per_example = [
        sum(r["example_id"] == e and r["task"] == t for r in rows)
        for t, e in {(r["task"], r["example_id"]) for r in rows}
    ]
    assert max(per_example) == 2
    assert Funnel.read(tmp_path / "funnel.json") == funnel
    assert load_vocabulary(tmp_path / "vocabulary.yaml").names == V.names
    assert seen[-1][0] == seen[-1][1] == 60


def digests(folder) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_and_resuming_after_any_step(tmp_path):
    tasks, train = two_tasks(16)
    build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path / "a", seed=1))
    build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path / "b", seed=1))
    whole = digests(tmp_path / "a")
    assert whole == digests(tmp_path / "b")
    for step in ("sample", "rollouts", "accuracy_filter", "tagging", "keep"):
        (tmp_path / "b" / "steps" / f"{step}.parquet").unlink()
        (tmp_path / "b" / "chains.parquet").unlink()
        build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path / "b", seed=1))
        assert whole == digests(tmp_path / "b")
    build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path / "c", seed=2))
    assert whole != digests(tmp_path / "c")


def test_a_changed_setting_reruns_from_its_step_on(tmp_path):
    tasks, train = two_tasks(16)
    build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path, seed=1))

    def no_prompt(task, example):
        raise AssertionError("rollouts ran again")

    funnel = build_chains(ChainSettings(keep_per_example=1), tasks, train, no_prompt, StageContext(tmp_path, seed=1))
    assert funnel.steps[-1].total < funnel.steps[-2].total
    with pytest.raises(AssertionError, match="rollouts ran again"):
        build_chains(ChainSettings(samples=4), tasks, train, no_prompt, StageContext(tmp_path, seed=1))


def test_no_survivors_is_an_error_with_the_counts(tmp_path):
    tasks, train = two_tasks(10)
    with pytest.raises(RunError, match=r"not one chain survived \(sample 20, rollouts 320, .*format_filter 0"):
        build_chains(ChainSettings(min_segments=9), tasks, train, shown, StageContext(tmp_path, seed=1))
    assert Funnel.read(tmp_path / "funnel.json").steps[-1].total == 0


def test_settings_that_cannot_work_are_refused():
    model = {"model": "m", "price": {"input": 1}}
    with pytest.raises(ValidationError, match=r"calls\.max_cost needs tagger\.price"):
        ChainSettings(teacher=model, judge=model, tagger={"model": "m"}, calls={"max_cost": 3})
    ChainSettings(teacher=model, tagger={"model": "m", "engine": "vllm"}, calls={"max_cost": 3})
    with pytest.raises(ValidationError, match="two growing numbers"):
        ChainSettings(discovery={"k_range": (9, 4)})


def test_a_teacher_model_needs_a_tagger(tmp_path):
    with pytest.raises(RecipeError, match=r"chains\.tagger: missing"):
        build_chains(ChainSettings(teacher={"model": "m"}), {}, {}, shown, StageContext(tmp_path, seed=1))


def test_one_budget_for_all_models(tmp_path):
    """80 rollouts and the judging of what is right: the cap counts both, and a rerun with more goes on."""
    tasks, train = {"t": label_task()}, {"t": label_examples(10)}
    with running_server(tmp_path, "--log", str(tmp_path / "log")) as url:
        model = {"model": "m", "base_url": url}
        roles = {"teacher": model, "judge": model | {"temperature": 0}, "tagger": model | {"temperature": 0}}
        blocks = roles | {"samples": 8, "cache": tmp_path / "c.sqlite"}
        with pytest.raises(RunError, match=r"max_requests: 85 requests are sent; \d+ calls are left"):
            settings = ChainSettings(**blocks, calls={"max_requests": 85})
            build_chains(settings, tasks, train, shown, StageContext(tmp_path / "d", seed=1))
        assert (tmp_path / "log").read_text().count("ask") == 85
        build_chains(ChainSettings(**blocks), tasks, train, shown, StageContext(tmp_path / "d", seed=1))
    asked = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("ask")]
    assert len(asked) == len(set(asked)) > 85


@pytest.mark.parametrize("tagging", ["ranges", "inline"])
def test_faults_of_the_server_do_not_change_the_dataset(tmp_path, tagging: str):
    tasks, train = {"t": label_task()}, {"t": label_examples(20)}

    def build(name: str, *options: str) -> Funnel:
        with running_server(tmp_path / f"{name}-server", *options) as url:
            model = {"model": "m", "base_url": url}
            settings = ChainSettings(
                teacher=model, judge=model, tagger=model, tagging=tagging, samples=8,
                min_segments=1 if tagging == "inline" else 3,
                vocabulary="discover" if tagging == "ranges" else "paper",
                discovery={"encoder": "tfidf", "k": 3}, cache=tmp_path / f"{name}.sqlite",
                calls={"attempts": 40, "timeout_s": 0.7, "backoff_s": 0.01, "backoff_max_s": 0.05},
            )  # fmt: skip
            return build_chains(settings, tasks, train, shown, StageContext(tmp_path / name, seed=1))

    good, bad = build("good"), build("bad", "--fault-rate", "0.3")
    assert good == bad
    assert read_parquet(tmp_path / "good" / "chains.parquet") == read_parquet(tmp_path / "bad" / "chains.parquet")
    names = [step.step for step in good.steps]
    assert ("exploratory_tagging" in names) == ("vocabulary" in names) == (tagging == "ranges")
    counts = {step.step: step.total for step in good.steps}
    assert counts["rollouts"] == 160 > counts["accuracy_filter"] > counts["judge_filter"] > 0 < counts["keep"]
    assert counts["tagging"] == counts["judge_filter"]  # this tagger changes nothing
    for row in read_parquet(tmp_path / "good" / "chains.parquet"):
        assert 15 < row["judge"] <= 20


def test_the_folder_loads_with_datasets(tmp_path):
    import datasets

    tasks, train = two_tasks(12)
    build_chains(ChainSettings(), tasks, train, shown, StageContext(tmp_path / "d", seed=1))
    loaded = datasets.load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "cache"))["train"]
    assert len(loaded) == len(read_parquet(tmp_path / "d" / "chains.parquet"))
    assert {"completion", "answer", "score", "tags"} <= set(loaded.column_names)
    assert "accuracy_filter" in (tmp_path / "d" / "README.md").read_text()


def test_format_filter_names_the_reason():
    good = "<think>\n<analyze_input> a </analyze_input>\n</think>\nx"
    rows = [
        {"completion": good, "answer": "x"},
        {"completion": good, "answer": "y"},
        {"completion": "x", "answer": "x"},
    ]
    kept, notes = format_filter(rows, V, 1)
    assert len(kept) == 1 and notes == {"answer changed": 1, "missing_think": 1}
    assert format_filter(rows[:1], V, 2) == ([], {"too few tagged steps": 1})


def test_keep_best_takes_every_example_before_a_second_chain_of_any():
    rows = [
        {"task": "t", "example_id": str(e), "sample": s, "completion": f"{e}{s % 3}", "score": s / 9, "judge": None}
        for e in range(6)
        for s in range(6)
    ]
    kept, notes = keep_best(rows, 2, 8, seed=0)
    assert len(kept) == 8 and len({row["example_id"] for row in kept}) == 6
    assert notes == {
        "same text again": 18,
        "beyond the number kept per example": 6,
        "beyond the number kept per task": 4,
    }
    assert keep_best(rows, None, None, 0)[0] != kept


def test_ratings_pass_only_when_exact():
    task = label_task(Kind.RATING, ("1", "2", "3", "4", "5"))
    rows = [{"task": "t", "example_id": "1", "answer": answer} for answer in ("4", "4.0", "3", "good", "")]
    kept, notes = accuracy_filter(rows, {"t": task}, {("t", "1"): "4"}, {})
    assert [(row["answer"], row["score"]) for row in kept] == [("4", 1.0), ("4.0", 1.0)]
    assert notes == {"wrong answer": 2, "no answer": 1}


PARTS = {name: {"reason": "r", "score": 4} for name in ("coherence", "accuracy", "completeness", "relevance")}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(PARTS),
        "Sure!\n```json\n" + json.dumps(PARTS | {"total": 3}, indent=1) + "\n```\nDone.",
        json.dumps(dict.fromkeys(PARTS, 4)),
        json.dumps({name.capitalize(): "4/5" for name in PARTS}),
        json.dumps({"Logical coherence": 4, "Step accuracy": 4.0, "Reasoning completeness": "4", "relevance": 4}),
        '{"a": 1} ' + json.dumps(PARTS)[:-1] + ",}",
    ],
)
def test_judge_scores_are_read_robustly(text: str):
    assert read_scores(text) == dict.fromkeys(PARTS, 4)


@pytest.mark.parametrize("text", ["", "{", "no", "[4, 4]", '{"coherence": 4}', json.dumps(dict.fromkeys(PARTS, 6)),
                                  json.dumps(dict.fromkeys(PARTS, True)), "{" * 20000,
                                  json.dumps(dict.fromkeys(PARTS, float("nan"))),
                                  json.dumps(dict.fromkeys(PARTS, 0)).replace("0", "1e999")])  # fmt: skip
def test_unreadable_judge_scores_are_none(text: str):
    assert read_scores(text) is None


CHAIN = "First I look at it. It has 3.5 parts!  Then\nI compare them. So it is net."


def test_sentences_rejoin_to_the_chain():
    for text in (CHAIN, "", "One", "e.g. this. And\n\nthat", "日本語。テキスト。"):
        parts = split_sentences(text)
        assert squeeze("".join(parts)) == squeeze(text) and all(parts)


def test_ranges_cannot_change_the_text():
    parts = split_sentences(CHAIN)
    assert len(parts) == 5
    text = apply_ranges(parts, "1-2: analyze_input\n- 3-4: `Compare Entities`\n5: make_decision", V, "net")
    response = parse_response(text, V)
    assert response.well_formed and response.answer == "net"
    assert [s.tag for s in response.segments] == ["analyze_input", "compare_entities", "make_decision"]
    assert squeeze("".join(s.text for s in response.segments)) == squeeze(CHAIN)
    merged = apply_ranges(parts, "1: analyze_input\n2: analyze_input\n3-5: make_decision", V, "net")
    assert apply_ranges(parts, "1: A\n3: G", V, "net") == merged and V.names[6] == "make_decision"
    assert len(parse_response(merged, V).segments) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I think so", "no ranges"),
        (f"{'9' * 5000}: a", "no ranges"),
        ("1-2: a", "a sentence is in no range"),
        ("2-3: a", "a sentence is in no range"),
        ("1-2: a\n2-3: b", "ranges overlap"),
        ("1-4: a", "a range goes beyond the chain"),
        ("1: a\n4: b", "a range goes beyond the chain"),
        ("0: a\n2: b", "a range goes beyond the chain"),
        ("2: a", "a sentence is in no range"),
        ("1: a\n3: b\n2: c", "ranges overlap"),
        ("1: a\n1: b", "ranges overlap"),
        ("1-2: a\n3-1: b", "ranges overlap"),
    ],
)
def test_bad_ranges_are_rejected(text: str, reason: str):
    with pytest.raises(TaggingError, match=reason):
        read_ranges(text, 3)


def test_inline_rejects_any_drift_beyond_white_space():
    good = "<analyze_input>First I look at it. It has 3.5 parts! </analyze_input>\n"
    good += "<make_decision>Then I compare them. So it is net.</make_decision>"
    assert parse_response(apply_inline(CHAIN, good, V, "net"), V).well_formed
    assert apply_inline(CHAIN, f"```xml\n{good}\n```", V, "net") == apply_inline(CHAIN, good, V, "net")
    for old, new in (("3.5", "3,5"), ("it is", "it was"), ("First ", ""), ("net.</", "net. Yes.</"), ("look", "Look")):
        with pytest.raises(TaggingError, match="the text was changed"):
            apply_inline(CHAIN, good.replace(old, new, 1), V, "net")
    with pytest.raises(TaggingError, match="unknown_tag"):
        apply_inline(CHAIN, good.replace("make_decision", "decide"), V, "net")
    with pytest.raises(TaggingError, match="text_outside"):
        apply_inline(CHAIN, "Here it is: " + good, V, "net")


def test_names_are_normalised():
    for name in ("Compare Options", "compareOptions", "compare-options", " COMPARE_options "):
        assert normalise_name(name) == "compare_options"


def test_a_step_with_refusals_is_made_again_and_one_without_is_not(tmp_path):
    """A server that refused everything once (a wrong limit, since mended) must not decide all later runs."""
    from tagpr.chains.steps import StepStore

    made = []

    def run(notes: dict[str, int]) -> list:
        def make():
            made.append(notes)
            return [{"task": "t", "tag": "a"}], notes

        return StepStore(tmp_path, "x").run("free", pa.schema([("task", pa.string()), ("tag", pa.string())]), 1, make)

    assert run({"refused: HTTP N: too long": 3}) == run({"cut by max_new_tokens": 1}) == run({}) == run({})
    assert len(made) == 2


def test_steps_after_one_that_is_made_again_see_its_rows(tmp_path):
    """What a model refused once and answers now goes through every later step; equal rows make none of them again."""
    from tagpr.chains.steps import StepStore

    schema = pa.schema([("task", pa.string()), ("tag", pa.string())])
    made = []

    def run(tags: str, notes: dict[str, int]) -> tuple[str, str]:
        store = StepStore(tmp_path, "x")

        def filtered() -> tuple[list, dict]:
            made.append(tags)
            return rollouts, {}

        rollouts = store.run("rollouts", schema, 1, lambda: ([{"task": "t", "tag": tag} for tag in tags], notes))
        kept = store.run("filter", schema, 1, filtered)
        return "".join(row["tag"] for row in rollouts), "".join(row["tag"] for row in kept)

    assert run("a", {"refused: HTTP N": 1}) == ("a", "a")
    assert run("a", {"refused: HTTP N": 1}) == ("a", "a") and made == ["a"]
    assert run("ab", {}) == ("ab", "ab") and made == ["a", "ab"]
    assert run("abc", {}) == ("ab", "ab") and made == ["a", "ab"]
