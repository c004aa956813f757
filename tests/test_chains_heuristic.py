"""The heuristic teacher: it never sees the reference, leaves the item at hand out, and writes well-formed chains."""

import dataclasses
import random

import numpy as np
import pytest

from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.evidence.text import split_options
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.labels import LabelEvidence
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.tasks.types import Example, Interaction, Kind, Task

V = load_vocabulary()
TOPICS = {
    "net": "network socket protocol http client server",
    "games": "puzzle arcade board player level score",
    "sound": "audio mixer synth midi speaker",
}


def label_task(kind: Kind = Kind.LABEL, labels: tuple[str, ...] = tuple(TOPICS)) -> Task:
    return Task(
        name="t", kind=kind, description="", instruction="", entry="", input_fields=("text",), output_field="section",
        labels=labels, metrics=("accuracy",),
    )  # fmt: skip


def label_examples(count: int, seed: int = 0) -> list[Example]:
    """Items whose text has two words of their topic, from users who have a favourite topic."""
    rng = random.Random(seed)
    items = []
    for number in range(count):
        favourite = list(TOPICS)[number % 3]
        history = tuple(
            Interaction(
                f"h{number}-{i}", {"text": rng.choice(TOPICS[favourite].split()) + " thing", "section": favourite}
            )
            for i in range(4)
        )
        topic = favourite if rng.random() < 0.6 else rng.choice(list(TOPICS))
        text = " ".join(rng.sample(TOPICS[topic].split(), 2)) + " tool"
        items.append(Example(f"e{number}", f"u{number}", "t", text, topic, history))
    return items


def text_examples(count: int) -> tuple[Task, list[Example]]:
    task = Task(
        name="s", kind=Kind.TEXT, description="", instruction="", entry="", input_fields=("body",),
        output_field="synopsis", metrics=("rouge1",),
    )  # fmt: skip
    rng = random.Random(1)
    examples = []
    for number in range(count):
        noun = rng.choice(["mixer", "browser", "parser", "game"]) + " for " + rng.choice(["GTK", "Qt", "text", "audio"])
        body = f"Foo{number} is a small {noun} with many options. It was written in C. See the manual (1)."
        history = tuple(
            Interaction(f"h{number}-{i}", {"body": "Bar is a fast tool.", "synopsis": "fast tool"}) for i in range(3)
        )
        examples.append(Example(f"e{number}", f"u{number}", "s", body, "small " + noun, history))
    return task, examples


def test_chains_do_not_depend_on_the_reference():
    task, train = label_task(), label_examples(60)
    stripped = [dataclasses.replace(e, target=None) for e in train]
    teacher = HeuristicTeacher(task, train, 3)
    for example, blind in zip(train, stripped, strict=True):
        assert teacher.sample(example, example.profile, 8) == teacher.sample(blind, blind.profile, 8)


@pytest.mark.parametrize("wrong", ["games", "sound", "net"])
def test_an_items_own_label_teaches_nothing_about_it(wrong: str):
    """Whatever label a training item has, its own evidence is the same."""
    task, train = label_task(), label_examples(60)
    changed = [dataclasses.replace(train[0], target=wrong), *train[1:]]
    before = LabelEvidence(task, train, task.labels).of(train[0], train[0].profile)
    after = LabelEvidence(task, changed, task.labels).of(train[0], train[0].profile)
    assert before.posterior_L == pytest.approx(after.posterior_L, abs=1e-12)
    assert before.clues == after.clues
    one, other = HeuristicTeacher(task, train, 0), HeuristicTeacher(task, changed, 0)
    assert one.sample(train[0], train[0].profile) == other.sample(train[0], train[0].profile)


def test_a_text_items_own_output_teaches_nothing_about_it():
    task, train = text_examples(40)
    changed = [dataclasses.replace(train[0], target="written in C"), *train[1:]]
    one, other = HeuristicTeacher(task, train, 0), HeuristicTeacher(task, changed, 0)
    assert one.sample(train[0], train[0].profile) == other.sample(train[0], train[0].profile)
    scores = [[phrase.score for phrase in t.phrases.of(train[0], ())[0]] for t in (one, other)]
    assert scores[0] == scores[1]


def test_texts_that_tell_nothing_are_given_no_weight():
    """Long texts differ in hundreds of words by chance: what is said of new ones is no more certain than a guess."""
    rng = random.Random(0)
    words, stars = [f"w{number}" for number in range(300)], ["1", "2", "3", "4", "5"]
    items = [
        Example(f"e{number}", f"u{number}", "t", " ".join(rng.choices(words, k=60)), rng.choice(stars))
        for number in range(160)
    ]
    task, train, held = label_task(Kind.RATING, tuple(stars)), items[:100], items[100:]
    evidence = LabelEvidence(task, train, task.labels)
    said = [evidence.of(example, ()).posterior_L[stars.index(example.target or "")] for example in held]
    assert -np.log(said).mean() < np.log(5) + 0.05


def test_label_chains_are_varied_well_formed_and_mostly_right():
    task, train, held = label_task(), label_examples(150), label_examples(60, seed=9)
    held = [dataclasses.replace(e, id="held-" + e.id) for e in held]
    teacher = HeuristicTeacher(task, train, 0)
    right = 0
    for example in held:
        chains = teacher.sample(example, example.profile, 16)
        responses = [parse_response(chain, V) for chain in chains]
        assert len(chains) == 16 and len(set(chains)) > 4
        assert all(r.well_formed and len(r.segments) >= 3 and r.answer in TOPICS for r in responses)
        # the answer follows from the chain: the last step names it
        assert all(r.answer in r.segments[-1].text for r in responses)
        right += responses[0].answer == example.target
    assert right >= 50  # the words tell nearly always


def test_every_claim_of_every_kind_of_chain_is_true():
    """Whatever is sampled for whatever task: the shown history, the question and the arithmetic bear it out."""
    label, text = label_task(), text_examples(60)
    rating = label_task(Kind.RATING, ("1", "2", "3", "4", "5"))
    rng = random.Random(4)
    rated = [
        Example(
            *(f"r{i}", f"u{i}", "t", rng.choice(["fine", "poor", "great"]) + f" product {rng.randrange(9)}"),
            str(rng.randint(1, 5)),
            tuple(Interaction(f"p{i}-{j}", {"text": "product", "section": str(rng.randint(1, 5))}) for j in range(4)),
        )
        for i in range(80)
    ]
    kinds = set()
    for task, train in ((label, label_examples(90)), text, (rating, rated)):
        teacher = HeuristicTeacher(task, train, 0)
        for example in train[:40]:
            for entries in (example.profile, example.profile[:1], ()):
                for chain in teacher.sample(example, entries, 8):
                    response = parse_response(chain, V)
                    report = check_evidence(response, Shown.of(task, example, entries))
                    assert response.well_formed and report.precision == 1.0, (chain, report.false)
                    kinds |= {claim.kind for claim in report.claims}
    assert kinds >= {*["tally", "word", "sum", "decision", "answer", "quotation", "output", "style", "span"]}


def test_evidence_is_of_the_shown_history_only():
    task, train = label_task(), label_examples(90)
    teacher = HeuristicTeacher(task, train, 0)
    shown = (Interaction("x", {"text": "odd kazoo", "section": "sound"}),)
    for chain in teacher.sample(train[0], shown, 16):
        assert "<identify_patterns> sound: sound x1. </identify_patterns>" in chain
    assert all("There is no history." in chain for chain in teacher.sample(train[0], (), 4))


def test_rating_takes_the_middle_of_its_belief():
    task = label_task(Kind.RATING, ("1", "2", "3", "4", "5"))
    history = tuple(Interaction(f"h{i}", {"text": "product", "section": s}) for i, s in enumerate("2233344"))
    train = [Example(f"e{i}", "u", "t", f"word{i}", "3", history) for i in range(30)]
    assert HeuristicTeacher(task, train, 0).best(Example("q", "u", "t", "unknown", None), history) == "3"


def test_choice_reads_the_printed_options():
    task = Task(
        name="c", kind=Kind.CHOICE, description="", instruction="", entry="", input_fields=("title",),
        labels=("[1]", "[2]"), metrics=("accuracy",),
    )  # fmt: skip
    text = 'Which is related? Answer with [1] or [2]. [1]: "deep parsing of trees" [2]: "graph cuts"'
    assert split_options(text, task.labels)[1] == ["deep parsing of trees", "graph cuts"]
    history = (Interaction("h", {"title": "Fast parsing with trees"}),)
    example = Example("e", "u", "c", text, "[1]", history)
    teacher = HeuristicTeacher(task, [example], 0)
    chains = teacher.sample(example, history, 16)
    assert teacher.best(example, history) == "[1]"
    assert all(parse_response(chain, V).well_formed for chain in chains)
    assert any("parsing" in chain for chain in chains)
    shown = Shown.of(task, example, history)
    assert not any(check_evidence(parse_response(chain, V), shown).false for chain in chains)


def test_text_answers_are_phrases_of_the_text_in_the_users_style():
    task, train = text_examples(60)
    teacher = HeuristicTeacher(task, train[:50], 0)
    for example in train[50:]:
        answer = teacher.best(example, example.profile)
        assert answer.lower() in example.input.lower() and answer[:1].islower()
        assert set(example.target.split()) <= set(answer.split()) and len(answer.split()) <= 8


@pytest.mark.parametrize(
    "text", ["", "<think></think><analyze_input>", "。".join(["日本語のテキスト"] * 40), "a " * 5000, '""" ((( [[[']
)
def test_any_text_gives_well_formed_chains(text: str):
    history = (Interaction("h", {"text": text, "section": "net", "body": text, "synopsis": text}),)
    for task, train in ((label_task(), label_examples(30)), text_examples(20)):
        teacher = HeuristicTeacher(task, train, 0)
        for chain in teacher.sample(Example("x", "u", task.name, text, None, history), history, 16):
            response = parse_response(chain, V)
            assert response.well_formed and len(response.segments) >= 3, (chain, response.faults)


def test_same_seed_same_chains_in_any_order():
    task, train = label_task(), label_examples(40)
    one, other = HeuristicTeacher(task, train, 5), HeuristicTeacher(task, train, 5)
    forward = [one.sample(e, e.profile, 4) for e in train]
    backward = [other.sample(e, e.profile, 4) for e in reversed(train)]
    assert forward == backward[::-1]
    assert forward != [HeuristicTeacher(task, train, 6).sample(e, e.profile, 4) for e in train]
