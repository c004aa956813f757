"""The room of truth: true claims are found true, and each kind of false one false."""

import dataclasses
import time
from collections import Counter
from pathlib import Path

import pytest

from tagpr.chains.evidence import ClaimKind, Shown, check_evidence
from tagpr.chains.evidence.habits import applied
from tagpr.chains.filters import evidence_filter
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.evaluation.predictions import make_prediction
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.prompts import PromptSettings, build_prompt
from tagpr.prompts.cuts import Seen, as_shown
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.evidence import evidence_reward
from tagpr.rewards.settings import RewardSettings
from tagpr.systems.protocol import Answer
from tagpr.tasks import Example, Interaction, load_task

V = load_vocabulary()
CHANGELOG, SECTION = load_task("package-changelog"), load_task("package-section")
NOTES = ("d/control: Add Vcs fields.", "Fix a typo", "added a test.")
CHAIN = """<think>
<analyze_input> plain </analyze_input>
<examine_examples> "d/control: Add Vcs fields." </examine_examples>
<make_decision> letter capital, verb add, end stop </make_decision>
</think>
Drop the old patch."""


def notes_shown() -> Shown:
    entries = tuple(Interaction(str(i), {"note": note}) for i, note in enumerate(NOTES))
    return Shown.of(CHANGELOG, Example("e", "u", CHANGELOG.name, "drop the old patch", None, entries), entries)


def packages_shown() -> Shown:
    entries = tuple(
        Interaction(str(i), {"synopsis": synopsis, "section": section})
        for i, (synopsis, section) in enumerate(
            [("fast HTTP client", "net"), ("web page viewer", "web"), ("SSH client", "net")]
        )
    )
    return Shown.of(SECTION, Example("e", "u", SECTION.name, "small HTTP server for tests", None, entries), entries)


def false_claims(chain: str, shown: Shown) -> list[tuple[ClaimKind, str]]:
    return [(claim.kind, claim.text) for claim in check_evidence(parse_response(chain, V), shown).false]


def test_a_true_chain_about_habits_has_no_false_claim():
    report = check_evidence(parse_response(CHAIN, V), notes_shown())
    assert report.precision == 1.0
    assert [claim.kind for claim in report.claims] == [
        ClaimKind.QUESTION, ClaimKind.NOTE, *[ClaimKind.DECISION] * 3, ClaimKind.ANSWER
    ]  # fmt: skip
    assert all(CHAIN[claim.start : claim.end] == claim.text for claim in report.claims)


def test_what_a_chain_decides_can_be_carried_out_by_a_program():
    other = parse_response(CHAIN.replace("end stop", "end none").replace("verb add", "verb added"), V)
    assert applied(other, "drop the old patch") == "Dropped the old patch" != other.answer
    assert (
        applied(parse_response("<think>\n<analyze_input> plain </analyze_input>\n</think>\nDrop it", V), "drop it")
        is None
    )


@pytest.mark.parametrize(
    ("so", "instead", "kind"),
    [
        (" plain ", " bug ", ClaimKind.QUESTION),
        ("d/control: Add", "d/control: add", ClaimKind.NOTE),
        ('fields."', 'fields"', ClaimKind.NOTE),
        ('"d/control: Add Vcs fields."', '"Vcs fields."', ClaimKind.NOTE),
        ("Drop the old patch.", "Drop the old patch", ClaimKind.ANSWER),
        ("Drop the old patch.", "Dropped the old patch.", ClaimKind.ANSWER),
    ],
)
def test_each_false_claim_about_habits_is_found(so, instead, kind):
    assert [found for found, _ in false_claims(CHAIN.replace(so, instead), notes_shown())] == [kind]


@pytest.mark.parametrize(
    ("so", "instead", "answer", "true"),
    [
        ("letter capital", "letter small", "drop the old patch.", True),  # one of the three notes begins so
        ("verb add", "verb added", "Dropped the old patch.", True),
        ("verb add", "verb adding", "Dropping the old patch.", False),
        ("end stop", "end none", "Drop the old patch", True),
        ("end stop", 'end " (Closes: #N)"', "Drop the old patch (Closes: #N)", False),
    ],
)
def test_a_decided_habit_is_one_that_a_shown_note_has(so, instead, answer, true):
    chain = CHAIN.replace(so, instead).replace("Drop the old patch.", answer)
    assert false_claims(chain, notes_shown()) == ([] if true else [(ClaimKind.DECISION, instead)])


def test_a_habit_that_no_note_shows_can_be_decided_either_way_and_the_answer_must_follow():
    shown = dataclasses.replace(notes_shown(), input="drop the old patch [bug 123456]")
    chain = CHAIN.replace(" plain ", " bug ")
    for end, written in ((". (Closes: #N)", ". (Closes: #123456)"), (", closes: #N", ", closes: #123456")):
        decided = chain.replace("end stop", f'end "{end}"')
        assert false_claims(decided.replace("patch.", f"patch{written}"), shown) == []
        assert [kind for kind, _ in false_claims(decided, shown)] == [ClaimKind.ANSWER]


def test_labels_of_several_words_are_read_whole():
    entries = tuple(Interaction(str(i), {"tag": tag}) for i, tag in enumerate(["dark comedy", "based on a book"]))
    task = load_task("lamp-2")
    shown = Shown.of(task, Example("e", "u", task.name, "A queen is dumped.", None, entries), entries)
    chain = (
        "<think>\n<identify_patterns> dark comedy, based on a book: dark comedy x1, based on a book x1. "
        "</identify_patterns>\n<analyze_input> dark comedy: queen; based on a book: nothing. </analyze_input>\n"
        "<compare_entities> dark comedy 1 + 1 = 2, based on a book 0 + 1 = 1. </compare_entities>\n"
        "<make_decision> dark comedy over based on a book. </make_decision>\n</think>\ndark comedy"
    )
    report = check_evidence(parse_response(chain, V), shown)
    assert Counter(claim.kind for claim in report.claims) == {
        ClaimKind.OUTPUT: 1, ClaimKind.TALLY: 2, ClaimKind.WORD: 1, ClaimKind.SUM: 2, ClaimKind.DECISION: 1,
        ClaimKind.ANSWER: 1,
    }  # fmt: skip
    assert report.precision == 1.0
    other = chain.replace("comedy over based on a book", "comedy over comedy")  # a label that was not compared
    assert false_claims(other, shown) == [(ClaimKind.DECISION, "dark comedy over comedy")]
    lost = chain.replace("dark comedy 1 + 1 = 2", "dark comedy 0 + 0 = 0")
    assert [kind for kind, _ in false_claims(lost, shown)] == [ClaimKind.DECISION]


def test_outputs_that_hold_one_another_are_read_in_no_time():
    """A user's own outputs make the patterns; none may be read in two ways so often that it takes for ever."""
    entries = tuple(Interaction(str(i), {"synopsis": "s", "section": ", ".join("a" * i)}) for i in range(1, 7))
    shown = Shown.of(SECTION, Example("e", "u", SECTION.name, "s", None, entries), entries)
    step = f"{', '.join('a' * 400)}; {'a ' * 400}: x: a x"
    chain = f"<think>\n<identify_patterns> {step} </identify_patterns>\n</think>\na"
    begin = time.perf_counter()
    check_evidence(parse_response(chain, V), shown)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("[1] shares parsing and trees with the history", True),
        ("[2] shares cuts with the history", True),
        ("[1] shares cuts with the history", False),  # a word of the other option
        ("[1] shares graph with the history", False),  # of none
        ("[2] shares parsing with the history", False),
        ("[1] shares trees with the question", True),
        ("[1] shares parsing with the question", False),  # the text before the options has no such word
    ],
)
def test_what_an_option_shares_is_about_that_option(said, true):
    task = load_task("lamp-1")
    entries = (Interaction("h", {"title": "Fast parsing with trees", "abstract": "A graph has cuts."}),)
    text = 'To the paper "On trees", which is related, [1] or [2]? [1]: "deep parsing of trees" [2]: "cuts of images"'
    shown = Shown.of(task, Example("e", "u", task.name, text, None, entries), entries)
    chain = f"<think>\n<compare_entities> {said}. </compare_entities>\n</think>\n[1]"
    assert false_claims(chain, shown) == ([] if true else [(ClaimKind.SHARED, said)])


def test_what_a_model_writes_freely_is_checked_by_its_quotations_and_item_numbers():
    chain = (
        '<think><examine_examples>Item 2 says "Fix a typo", item 9 "Fix the typo".</examine_examples></think>drop it'
    )
    assert false_claims(chain, notes_shown()) == [
        (ClaimKind.ITEM, "item 9"), (ClaimKind.QUOTATION, '"Fix the typo"')
    ]  # fmt: skip
    empty = "<think><analyze_input>One should think about it.</analyze_input></think>drop it"
    assert check_evidence(parse_response(empty, V), notes_shown()).precision is None


NINES = "9" * 5000  # more digits than int() takes
SECTIONS = """<think>
<examine_examples> "fast HTTP client" is net; "web page viewer" is web. </examine_examples>
<identify_patterns> net, web, net: net x2, web x1. </identify_patterns>
<analyze_input> net: http, server; web: tests. </analyze_input>
<compare_entities> net 2 + 2 = 4, web 1 + 1 = 2. </compare_entities>
<make_decision> net over web. </make_decision>
</think>
net"""


@pytest.mark.parametrize(
    ("so", "instead", "kind"),
    [
        ('"fast HTTP client"', '"slow HTTP client"', ClaimKind.QUOTATION),
        ("viewer\" is web", "viewer\" is net", ClaimKind.OUTPUT),
        ("net x2", "net x3", ClaimKind.TALLY),
        ("net, web, net:", "net, net, web:", ClaimKind.OUTPUT),
        ("web: tests", "web: browser", ClaimKind.WORD),
        ("net x2", f"net x{NINES}", ClaimKind.TALLY),
        ("1 + 1 = 2", "1 + 1 = 3", ClaimKind.SUM),
        ("1 + 1 = 2", f"1 + 1 = {NINES}", ClaimKind.SUM),
        ("net 2 + 2 = 4", "net 0 + 1 = 1", ClaimKind.DECISION),
        ("</think>\nnet", "</think>\ngames", ClaimKind.ANSWER),
    ],
)  # fmt: skip
def test_each_false_claim_about_items_and_words_is_found(so, instead, kind):
    shown = packages_shown()
    assert check_evidence(parse_response(SECTIONS, V), shown).precision == 1.0
    kinds = [found for found, _ in false_claims(SECTIONS.replace(so, instead), shown)]
    assert kind in kinds and set(kinds) <= {kind, ClaimKind.OUTPUT, ClaimKind.DECISION}


@pytest.mark.parametrize(
    "text",
    [
        *("", "<think>", 'x3 net is ""', "<think><make_decision>letter</make_decision></think>a"),
        '<think><make_decision>verb additive, upstream one, path x/, letter odd, end "N"</make_decision></think>a',
        '<think><examine_examples>"</examine_examples><make_decision>end ""</make_decision></think>a',
        f"<think><compare_entities>net {NINES} + 1 = {NINES}, web 1 + 1 = 2</compare_entities>"
        f"<make_decision>net over web, about {NINES} words</make_decision></think>net",
    ],
)
def test_any_text_has_a_report(text):
    for shown in (notes_shown(), packages_shown()):
        check_evidence(parse_response(text, V), shown)


def test_every_claim_of_the_teacher_of_change_notes_is_true():
    source = SourceSettings(task="package-changelog", max_train=120, max_heldout=40)
    split = load_splits(DataSettings(sources=(source,)), 0, Path())["package-changelog"]
    teacher = HeuristicTeacher(split.task, split.train, 0)
    right = 0
    for example in [*split.train, *split.heldout]:
        entries = example.profile[:-7:-1]
        completions = teacher.sample(example, entries, 3)
        blind = dataclasses.replace(example, target=None)
        assert teacher.sample(blind, entries, 3) == completions
        for completion in completions:
            response = parse_response(completion, V)
            report = check_evidence(response, Shown.of(split.task, example, entries))
            assert response.well_formed and report.precision == 1.0, (completion, report.false)
        right += parse_response(completions[0], V).answer == example.target
    assert right > 80  # of 160; the neutral text itself is right for a dozen


def test_the_filter_keeps_chains_whose_claims_are_true():
    shown = notes_shown()
    completions = {
        "true": CHAIN,
        "half": CHAIN.replace('fields."', 'fields"'),
        "empty": "<think><analyze_input>One thinks.</analyze_input></think>Drop the old patch.",
    }
    rows = [{"task": "t", "example_id": name, "completion": text} for name, text in completions.items()]
    kept, notes = evidence_filter(rows, V, 1.0, lambda task, example_id: shown)
    assert [row["example_id"] for row in kept] == ["true"]
    assert notes == {"false claim: note": 1, "no checkable claim": 1}
    kept, _ = evidence_filter(rows, V, 0.8, lambda task, example_id: shown)
    assert [row["example_id"] for row in kept] == ["true", "half"]


def test_the_reward_is_minus_the_share_of_false_claims_and_silence_is_the_worst():
    shown = notes_shown()
    false = CHAIN.replace('fields."', 'fields"')
    empty = "<think><analyze_input>One thinks.</analyze_input></think>Drop the old patch."
    values = [evidence_reward(parse_response(text, V), shown) for text in (CHAIN, false, empty)]
    assert values == [0.0, pytest.approx(-1 / 6), -1.0]
    settings = RewardSettings(gamma=0, delta_evidence=0.5)
    asked = {"task": [CHANGELOG.name] * 2, "target": ["Drop the old patch."] * 2, "example_id": ["e", "e"]}
    for stage in ("guided", "exploratory"):
        plain = CompositeReward({CHANGELOG.name: CHANGELOG}, V, RewardSettings(gamma=0), stage=stage)
        reward = CompositeReward(
            {CHANGELOG.name: CHANGELOG}, V, settings, stage=stage, shown={(CHANGELOG.name, "e"): shown}
        )
        without, with_evidence = plain([], [CHAIN, false], **asked), reward([], [CHAIN, false], **asked)
        assert with_evidence == [without[0], pytest.approx(without[1] - 0.5 / 6)]
    with pytest.raises(ValueError, match="shown"):
        CompositeReward({CHANGELOG.name: CHANGELOG}, V, settings)


def test_results_hold_the_share_of_true_claims_of_systems_that_claim_anything():
    shown = notes_shown()
    example = Example("e", "u", CHANGELOG.name, shown.input, "Drop the old patch.", shown.entries)
    false = CHAIN.replace('fields."', 'fields"')
    texts = {"true": CHAIN, "false": false, "direct": "Drop the old patch."}
    answers = {name: Answer(text, seen=Seen(("0", "1", "2"))) for name, text in texts.items()}
    rows = {
        name: [make_prediction(CHANGELOG, example, answer, V, lambda part: len(part.split()))]
        for name, answer in answers.items()
    }
    assert {name: (row[0].true_claims, row[0].claims) for name, row in rows.items()} == {
        "true": (6, 6), "false": (5, 6), "direct": (0, 0)
    }  # fmt: skip
    systems = [SystemAnswers(name, predictions={CHANGELOG.name: row}) for name, row in rows.items()]
    results = score({CHANGELOG.name: CHANGELOG}, systems, ("true",), EvaluationSettings(resamples=100), 0)
    points = {name: scores.points for name, scores in results.tasks[CHANGELOG.name].systems.items()}
    assert points["true"]["evidence_precision"] == 1.0 and points["false"]["evidence_precision"] == pytest.approx(5 / 6)
    assert "evidence_precision" not in points["direct"]


def long_reviews() -> list[Example]:
    """Reviews of which a prompt of 130 words shows the praise in front and not the complaint behind it."""
    found = []
    for number in range(24):
        score = "5" if number % 2 else "1"
        front, behind = ("superb", "charming") if number % 2 else ("dreadful", "filthy")
        text = f"{front} place number{number} {'and so on ' * 60} {behind} ending{number}"
        past = (Interaction(f"p{number}", {"text": f"{front} {'more words ' * 60} unseen{number}", "score": score}),)
        found.append(
            Example(
                f"e{number}", f"u{number}", "lamp-3", f"review: {text}", score, past, query=text, fields={"text": text}
            )
        )
    return found


def test_what_a_prompt_cuts_off_is_no_evidence():
    task, examples = load_task("lamp-3"), long_reviews()
    settings = PromptSettings(max_prompt_tokens=130)
    teacher = HeuristicTeacher(task, examples)
    cited = set()
    for example in examples:
        prompt = build_prompt(task, example, example.profile, settings, lambda text: len(text.split()), V.names)
        assert "" in prompt.cuts
        shown = Shown.of(task, example, prompt.entries, prompt.cuts)
        for text in teacher.sample(*as_shown(example, prompt.entries, prompt.cuts), 4):
            report = check_evidence(parse_response(text, V), shown)
            assert not report.false
            cited |= {claim.text for claim in report.claims if claim.kind is ClaimKind.WORD}
        chain = "<think>\n<analyze_input> 5: charming, superb; 1: filthy, dreadful. </analyze_input>\n</think>\n5"
        said = {claim.text: claim.true for claim in check_evidence(parse_response(chain, V), shown).claims}
        front, behind = ("superb", "charming") if example.target == "5" else ("dreadful", "filthy")
        assert said[front] and not said[behind]
        whole = Shown.of(task, example, example.profile)
        assert {c.text: c.true for c in check_evidence(parse_response(chain, V), whole).claims}[behind]
        row = make_prediction(task, example, Answer(chain, seen=prompt.seen), V, lambda part: len(part.split()))
        assert (row.claims, row.true_claims) == (len(said), sum(said.values())) and row.seen == prompt.seen
    assert cited & {"superb", "dreadful"} and not cited & {"charming", "filthy"}
