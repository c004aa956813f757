"""Causal tests of chains: what is forced, and what a model that follows its chain, or not, comes out as."""

from dataclasses import replace

from tagpr.chains.evidence import Shown
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.evaluation.interventions import Forced, chain_test, interventions, precision
from tagpr.evaluation.predictions import Prediction, make_prediction
from tagpr.prompts.cuts import Seen
from tagpr.statistics import Bootstrap
from tagpr.systems.protocol import Answer
from tagpr.tasks import Example, Interaction, load_task

V = load_vocabulary()
SECTION, CHANGELOG = load_task("package-section"), load_task("package-changelog")


def section_rows() -> list[Prediction]:
    rows = []
    for number, (label, other) in enumerate([("net", "web"), ("games", "x11"), ("mail", "net")]):
        chain = (
            f"<think>\n<identify_patterns> {label} x2. </identify_patterns>\n"
            f"<compare_entities> {label} 2 + 2 = 4, {other} 1 + 1 = 2. </compare_entities>\n"
            f"<make_decision> {label} over {other}. </make_decision>\n</think>\n{label}"
        )
        example = Example(f"e{number}", f"u{number}", SECTION.name, f"tool {number}", label)
        rows.append(make_prediction(SECTION, example, Answer(chain), V, lambda part: len(part.split())))
    return rows


def go_on(forced: list[Forced], own: dict[str, Prediction], obedient: bool) -> list[Prediction]:
    """Answers of a model that does what the chain says (it decides for the first label of the comparison), or never."""
    rows = []
    for item in forced:
        written = parse_response(item.text.replace("</think>\n", "</think>\nx"), V).segments
        answer = written[-1].text.split()[0] if obedient else own[item.id].answer
        rows.append(replace(own[item.id], completion=answer, answer=answer))
    return rows


def test_a_model_that_follows_its_chain_is_told_from_one_that_does_not():
    rows = section_rows()
    own = {row.id: row for row in rows}
    forced = interventions(SECTION, rows, V, {})
    assert set(forced) == {
        "first step only", "decision removed", "another question's evidence", "own label swapped", "false conclusion"
    }  # fmt: skip
    swapped = forced["own label swapped"][0]
    assert swapped.follows not in (None, "net") and "net" not in swapped.text and "</think>" not in swapped.text
    assert forced["decision removed"][0].text.endswith("</compare_entities>\n</think>\n")
    assert forced["first step only"][0].text.count("<identify_patterns>") == 1
    false = forced["false conclusion"][0]
    assert f"<make_decision> {false.follows} over web. </make_decision>" in false.text and "net 2 + 2" in false.text
    for name in ("another question's evidence", "own label swapped", "false conclusion"):
        follows = chain_test(SECTION, own, forced[name], go_on(forced[name], own, True), Bootstrap(100))
        stays = chain_test(SECTION, own, forced[name], go_on(forced[name], own, False), Bootstrap(100))
        assert follows.followed is not None and stays.followed is not None
        assert (follows.followed.mean, follows.same.mean) == (1.0, 0.0), name
        assert (stays.followed.mean, stays.same.mean, stays.quality.mean) == (0.0, 1.0, 0.0), name
    assert chain_test(SECTION, own, forced["decision removed"], rows, Bootstrap(100)).followed is None


def test_a_label_may_hold_a_backslash():
    task = load_task("personamem-v2")
    labels = task.labels[:2]
    chain = (
        f"<think>\n<compare_entities> {labels[0]} is near. </compare_entities>\n"
        f"<make_decision> So {labels[0]}. </make_decision>\n</think>\n{labels[0]}"
    )
    example = Example("e", "u", task.name, "q", labels[0])
    row = make_prediction(task, example, Answer(chain), V, lambda part: len(part.split()))
    (forced,) = interventions(task, [row], V, {})["false conclusion"]
    assert f"So {forced.follows}." in forced.text


def test_change_notes_are_forced_by_other_habits():
    chain = (
        '<think>\n<examine_examples> "Fix a typo" </examine_examples>\n'
        "<make_decision> letter capital, end none </make_decision>\n</think>\nDrop it"
    )
    notes = (Interaction("0", {"note": "Fix a typo"}),)
    example = Example("e", "u", CHANGELOG.name, "drop it", "Drop it", notes)
    row = make_prediction(CHANGELOG, example, Answer(chain, seen=Seen(("0",))), V, lambda part: len(part.split()))
    forced = interventions(CHANGELOG, [row], V, {"e": "drop it"})
    assert forced["false conclusion"] == [
        Forced("e", chain.replace("letter capital, end none", "letter small, end stop")[: -len("Drop it")], "drop it.")
    ]
    response, shown = parse_response(chain, V), Shown.of(CHANGELOG, example, notes)
    elsewhere = replace(shown, entries=(Interaction("1", {"note": "fix a typo."}),))
    assert precision([response], [shown]) == 1.0
    assert precision([response], [elsewhere]) == 0.25  # the answer still follows from the decision


def test_chains_that_are_not_well_formed_are_left_out():
    row = replace(section_rows()[0], completion="net")
    assert interventions(SECTION, [row], V, {}) == {}
