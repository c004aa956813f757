"""Asking a trained run: the evaluation's own answers, one or many, streamed or awaited, by command or in Python."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import tagpr
from serve_run import change_blocks, own_run, trained_run  # noqa: F401
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.cli import app
from tagpr.data import read_examples
from tagpr.engine.types import Completion, Sampling
from tagpr.errors import DataError, RecipeError, RunError
from tagpr.evaluation.predictions import read_predictions
from tagpr.pipeline import make
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.report.reading import read_run
from tagpr.runs import Run
from tagpr.serve.answers import PersonalAnswer, best_answer, make_answer
from tagpr.serve.histories import merge
from tagpr.serve.model import PersonalModel, Query
from tagpr.serve.question_files import read_queries
from tagpr.serve.questions import Asked, make_example
from tagpr.serve.served_run import ServedRun
from tagpr.tasks import Interaction, load_task

TASK = "package-section"


@pytest.fixture(scope="module")
def model(trained_run):  # noqa: F811
    with tagpr.load(trained_run) as loaded:
        yield loaded


@pytest.mark.parametrize("system", ["base", "sft", "final"])
def test_answers_are_those_of_the_evaluation(model: PersonalModel, system):
    """The prompt is worded as in training, so the same questions get the same completions, chains and items."""
    examples = read_examples(model.run.folder.heldout(TASK))
    rows = read_predictions(model.run.folder.predictions / system / f"{TASK}.jsonl")
    queries = [Query(e.user_id, {**e.fields, "input": e.input}, TASK, system, history=e.profile) for e in examples]
    answers = model.ask_many(queries)
    assert [answer.text for answer in answers] == [row.completion for row in rows]
    assert [answer.answer for answer in answers] == [row.answer for row in rows]
    assert [tuple(item.id for item in answer.evidence.items) for answer in answers] == [row.entries for row in rows]
    assert any(row.completion for row in rows)


def test_streamed_and_awaited_answers_are_the_asked_ones(model: PersonalModel):
    user = model.users()[0]
    query = Query(user, "a faster parser for log files")
    plain = model.ask(user, "a faster parser for log files")
    *pieces, last = model.stream(query)
    assert last == plain and "".join(pieces) == plain.text and len(pieces) > 1

    async def several() -> list[PersonalAnswer]:
        streamed = [piece async for piece in model.stream_async(query)]
        assert streamed[-1] == plain and "".join(streamed[:-1]) == plain.text
        return await asyncio.gather(*(model.ask_async(query) for _ in range(3)))

    assert asyncio.run(several()) == [plain] * 3


def test_a_seed_decides_an_answer_whoever_else_asks(model: PersonalModel):
    asked = [model.put(Query(user, "sound mixer")) for user in model.users()[:4]]
    sampling = Sampling(12, num_samples=2, temperature=1.0, seed=5, logprobs=True)
    alone = [model.submit(one, sampling).result() for one in asked]
    futures = [model.submit(one, sampling) for one in (*asked, *asked)]
    together = [future.result() for future in futures]
    texts = [[one.text for one in several] for several in together]
    assert texts == [[one.text for one in several] for several in (*alone, *alone)]
    assert texts[0][0] != texts[0][1]
    other = model.submit(asked[0], replace(sampling, seed=6)).result()
    assert [one.text for one in other] != texts[0]


def test_a_stop_text_ends_the_completion_and_is_never_sent(model: PersonalModel):
    asked = model.put(Query(model.users()[0], "sound mixer"))
    whole = model.submit(asked).result()[0]
    stop = whole.text[6:9]
    place = whole.text.index(stop)
    pieces: list[str] = []
    cut = model.submit(asked, stop=["never there", stop], on_text=lambda _, piece: pieces.append(piece)).result()[0]
    assert cut.text == whole.text[:place] == "".join(pieces)
    assert cut.finished and len(cut.token_ids) < len(whole.token_ids)


def test_whose_history_and_which_items_are_shown(model: PersonalModel):
    one, other = model.users()[:2]
    own = model.ask(one, "sound mixer").evidence.items
    theirs = model.ask(one, "sound mixer", history_of=other)
    assert theirs.history_of == other and [item.id for item in theirs.evidence.items] != []
    assert {item.fields["synopsis"] for item in theirs.evidence.items} <= {
        item.fields["synopsis"] for item in model.history(other)
    }
    assert model.ask(one, "sound mixer", history_of="").evidence.items == ()
    without = model.ask_many([Query(one, "sound mixer", without={own[0].id})])[0]
    assert own[0].id not in {item.id for item in without.evidence.items}


def _asked() -> Asked:
    task = load_task(TASK)
    items = (Interaction("7", {"synopsis": "http client", "section": "net"}),)
    example = make_example(task, "ada", "http tool", items)
    return Asked("ada", "final", task, example, "ada", items, (), (1, 2))


def test_the_best_of_several_is_what_true_chains_agree_on():
    def written(label: str, quoted: str, number: int) -> Completion:
        text = f'<think>\n<examine_examples> "{quoted}" is net. </examine_examples>\n'
        text += f"<make_decision> {label} </make_decision>\n</think>\n{label}"
        return Completion([1] * number, [-float(number)] * number, True, text, number)

    drawn = [written("web", "no such item", 1), written("web", "nor this", 2), written("net", "http client", 3)]
    drawn.append(written("net", "not shown", 4))
    chosen, best = best_answer(_asked(), drawn, load_vocabulary())
    assert best.answer == "net" and best.evidence.precision == 1 and best.agreement == 0.5
    assert best.completion_tokens == 1 + 2 + 3 + 4 and chosen is drawn[2]
    _, nothing = best_answer(_asked(), [Completion([1], None, False, "<think>\n</think>\n", 1)] * 2, load_vocabulary())
    assert nothing.answer == "" and nothing.agreement == 0


def test_the_best_of_several_is_asked_for(model: PersonalModel):
    user = model.users()[0]
    one, best = model.ask(user, "sound mixer"), model.ask(user, "sound mixer", best_of=3)
    assert one.agreement is None and best.agreement is not None and best.logprobs is None
    assert best.completion_tokens > one.completion_tokens
    query = Query(user, "sound mixer", best_of=3)
    assert asyncio.run(model.ask_async(query)) == best == model.ask_many([query, Query(user, "violin tuner")])[0]
    with pytest.raises(DataError, match="best_of: the best of several is known when all are written"):
        next(model.stream(query))
    with pytest.raises(DataError, match="best_of: 0 answers cannot be drawn"):
        model.ask(user, "sound mixer", best_of=0)


def test_evidence_says_which_items_the_chain_cites():
    task = load_task(TASK)
    items = tuple(
        Interaction(name, {"synopsis": text, "section": section})
        for name, text, section in (("7", "Fast HTTP   client", "net"), ("9", "web page maker", "web"), ("3", "x", "a"))
    )
    asked = Asked("ada", "final", task, make_example(task, "ada", "http tool", items), "ada", items, (), (1, 2))
    text = (
        '<think>\n<examine_examples> "fast http client" is net; item 2 is about the web. </examine_examples>\n'
        "<make_decision> net </make_decision>\n</think>\nnet"
    )
    answer = make_answer(asked, Completion([1], None, True, text, 1), load_vocabulary())
    assert answer.answer == "net" and not answer.faults
    assert [segment.tag for segment in answer.segments] == ["examine_examples", "make_decision"]
    assert [(item.number, item.id, item.cited) for item in answer.evidence.items] == [
        (1, "7", True),
        (2, "9", True),
        (3, "3", False),
    ]
    quote = answer.evidence.items[0].quotes[0]
    assert answer.evidence.items[0].fields[quote.field][quote.start : quote.end] == "Fast HTTP   client"
    assert all(answer.text[claim.start : claim.end] == claim.text for claim in answer.evidence.claims)


def test_a_past_note_that_is_the_whole_step_is_cited():
    """What the quickstart's chains do: a step is one shown note, letter for letter, in quotation marks."""
    task = load_task("package-changelog")
    notes = ("Add the Dutch translation.", "New upstream version 2.1")
    items = tuple(Interaction(str(n), {task.output_name: note}) for n, note in enumerate(notes))
    asked = Asked("ada", "final", task, make_example(task, "ada", "fix a typo", items), "ada", items, (), (1, 2))
    text = (
        '<think>\n<examine_examples> "Add the Dutch translation." </examine_examples>\n'
        "<make_decision> letter capital, end none </make_decision>\n</think>\nFix a typo"
    )
    answer = make_answer(asked, Completion([1], None, True, text, 1), load_vocabulary())
    assert [item.cited for item in answer.evidence.items] == [True, False]
    quote = answer.evidence.items[0].quotes[0]
    assert (quote.field, quote.start, quote.end) == (task.output_name, 0, len(notes[0]))


def test_mistakes_are_one_line_with_the_fix(model: PersonalModel, tmp_path):
    user = model.users()[0]
    with pytest.raises(DataError, match=f"no history of user '{user}x'; did you mean '{user}'"):
        model.ask(user + "x", "sound mixer")
    with pytest.raises(DataError, match="the question is empty"):
        model.ask(user, "  ")
    with pytest.raises(DataError, match="has no task 'lamp-2'; it has package-section"):
        model.ask(user, "sound mixer", task="lamp-2")
    with pytest.raises(RecipeError, match="it may use"):
        model.ask_many([Query(user, {"synopsis": "x"}, history=[Interaction("1", {"other": "x"})])])
    with pytest.raises(DataError, match="package-section: a question has no field 'nope'; it has synopsis, input"):
        model.ask(user, {"synopsis": "x", "nope": "a"})
    with pytest.raises(DataError, match=r"none\.txt: no such file; give one with a question per line"):
        read_queries(tmp_path / "none.txt", Query(user, ""))
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_queries(tmp_path, Query(user, ""))
    with pytest.raises(RunError, match="no such run folder"):
        tagpr.load(tmp_path / "none")
    with pytest.raises(RunError, match="no trained checkpoint"):
        tagpr.load(tmp_path)


def test_histories_merge_in_their_order():
    a, b, c, d = (Interaction(name, {"x": name}) for name in "abcd")
    assert merge([(a, b, d), (a, b, c)]) == (a, b, c, d)
    other = Interaction("a", {"x": "another"})
    assert [item.id for item in merge([(a,), (other,)])] == ["#a", "a"]
    dated = [Interaction(str(i), {"x": "x"}, f"2024-01-0{i}") for i in (3, 1, 2)]
    assert [item.id for item in merge([tuple(dated)])] == ["1", "2", "3"]


def test_the_command(trained_run, model: PersonalModel, tmp_path):  # noqa: F811
    user, run = model.users()[0], str(trained_run)
    expected = model.ask(user, "sound mixer")
    found = CliRunner().invoke(app, ["ask", run, user, "-", "--json"], input="sound mixer\n")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["text"] == expected.text
    plain = CliRunner().invoke(app, ["ask", run, user, "sound mixer"])
    assert (expected.answer or "(no answer)").split("\n")[0][:40] in plain.stdout and "items shown" in plain.stdout
    questions = tmp_path / "questions.txt"
    questions.write_text(f'sound mixer\n\n{{"user": "{model.users()[1]}", "question": "sound mixer"}}\n')
    several = CliRunner().invoke(app, ["ask", run, user, "--questions", str(questions)])
    rows = [json.loads(line) for line in several.stdout.splitlines()]
    assert [row["user"] for row in rows] == model.users()[:2] and rows[0]["text"] == expected.text
    questions.write_text(questions.read_text().splitlines()[-1])
    named = CliRunner().invoke(app, ["ask", run, "--questions", str(questions)])
    assert json.loads(named.stdout) == rows[1]
    best = CliRunner().invoke(app, ["ask", run, user, "sound mixer", "--best-of", "3"])
    assert best.exit_code == 0 and "% of the drawn answers agree" in best.stdout
    for missing, says in (([], f"name a USER; the run knows {user}, "), ([user], "give a QUESTION")):
        assert says in str(CliRunner().invoke(app, ["ask", run, *missing]).exception)


@pytest.mark.parametrize(
    "row",
    [
        '{"question": 5}',
        '{"question": {"title": 5}}',
        '{"question": "x", "user": 3}',
        '{"question": "x", "task": ["a"]}',
        '{"user": "ada"}',
        '{"question": "x"',
    ],
)
def test_a_line_that_is_no_question_is_named_with_its_file(tmp_path, row):
    path = tmp_path / "asked.jsonl"
    path.write_text(f"sound mixer\n\n{row}\n")
    with pytest.raises(DataError, match=r"asked\.jsonl:3: write one question per line") as found:
        read_queries(path, Query("ada", ""))
    assert "\n" not in str(found.value)


def test_a_question_of_a_file_keeps_its_line_separators(tmp_path):
    path = tmp_path / "asked.jsonl"
    rows = ["one\u2028two", json.dumps({"question": "a\u2028b\u0085c", "history_of": "bob"}, ensure_ascii=False)]
    path.write_text("\r\n".join(rows), encoding="utf-8")
    assert read_queries(path, Query("ada", "")) == [
        Query("ada", "one\u2028two"),
        Query("ada", "a\u2028b\u0085c", history_of="bob"),
    ]


def test_a_run_with_a_memory_is_asked_with_it(own_run, tmp_path, monkeypatch):  # noqa: F811
    change_blocks(own_run, profile={"retriever": "memory"})
    with tagpr.load(own_run) as model:
        user, run = model.users()[0], model.run
        asked = model.put(Query(user, "sound mixer"))
        tokenizer = model.engine.tokenizer("final")
        prompts = PromptBuilder(tokenizer, run.profile, run.prompt, run.vocabulary.names, run.seed)
        assert "Summary of the history: - answers so far: " in asked.messages[-1]["content"]
        assert list(asked.prompt_ids) == prompts.ids(asked.task, asked.example)
        assert "Summary" not in model.put(Query(user, "sound mixer", history_of="")).messages[-1]["content"]
    writer = {"writer": {"model": "m", "base_url": "http://127.0.0.1:1"}, "cache": "memories.sqlite"}
    change_blocks(own_run, profile={"memory": writer})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"profile\.memory\.cache memories\.sqlite: no such file .* recipe's folder"):
        ServedRun.open(own_run)
    (tmp_path / "memories.sqlite").touch()
    assert ServedRun.open(own_run).profile.memory.cache is not None


def test_the_tags_of_a_taught_checkpoint_are_served(tmp_path):
    """They are the recipe's, whatever chains lie there, and stay the run's when the recipe's file is gone."""
    tags = tmp_path / "tags.yaml"
    tags.write_text("- {name: look, definition: Looks.}\n- {name: decide, definition: Decides.}\n")
    small = "data.sources=[{task: package-section, max_train: 8, max_heldout: 4}]"
    run = Run.open("smoke", [small, "sft.checkpoint=random:tiny", f"chains.vocabulary={tags}"], tmp_path)
    load_vocabulary().write(run.folder.vocabulary)  # of an earlier recipe
    make(run, "data", "sft")
    assert run.vocabulary.names == ("look", "decide") == run.context().vocabulary.names
    tags.unlink()
    assert ServedRun.open(run.folder.path).vocabulary.names == ("look", "decide")
    assert [name for name, _ in read_run(run.folder.path).vocabulary] == ["look", "decide"]
    run.folder.taught_vocabulary.unlink()  # made by an earlier version
    with pytest.raises(RunError, match=r"sft: its checkpoint's tags are not beside it; delete this folder and run"):
        ServedRun.open(run.folder.path)


def test_a_variant_from_the_untrained_model_has_the_tags_that_were_discovered(tmp_path):
    model = "{model: m, base_url: 'http://127.0.0.1:1'}"
    asks = ["chains.vocabulary=discover", f"chains.teacher={model}", f"chains.tagger={model}"]
    run = Run.open("smoke", [*asks, "sft.checkpoint=random:tiny"], tmp_path)
    assert run.vocabulary.names == load_vocabulary().names
    tags = Vocabulary.of(["look", "decide"])
    tags.write(run.folder.vocabulary)
    assert run.vocabulary.names == ("look", "decide")


def test_importing_the_package_loads_no_torch():
    code = "import sys, tagpr; tagpr.load; print('torch' in sys.modules, 'tagpr.serve' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False False\n"
