"""Rollouts from a file, and chains with tags of one's own."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from tagpr.chains.build import build_chains
from tagpr.chains.dataset import read_chains
from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response, write_completion
from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import read_parquet
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.errors import DataError, RecipeError
from tagpr.progress import StageContext
from tagpr.tasks import Example, Interaction, load_task
from test_chains_build import shown, two_tasks

TASK = load_task("lamp-2")
TRAIN = {"lamp-2": [Example(str(i), f"u{i}", "lamp-2", "A film.", "comedy") for i in range(3)]}
CHAIN = "<think>\n" + "\n".join(f"<{tag}> step {tag} </{tag}>" for tag in load_vocabulary().names[:3]) + "\n</think>\n"


def build(folder: Path, rows, **settings):
    path = folder / "rollouts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ChainSettings(teacher="written", written=path, **settings)
    funnel = build_chains(chosen, {"lamp-2": TASK}, TRAIN, lambda task, example: None, StageContext(folder / "out"))
    return {step.step: step for step in funnel.steps}, read_parquet(folder / "out" / "chains.parquet")


def row(number, answer, **changes):
    return {"task": "lamp-2", "example_id": str(number), "completion": CHAIN + answer} | changes


def test_written_rollouts_pass_the_same_filters(tmp_path):
    rows = [row(0, "comedy"), row(0, "romance"), row(1, "romance"), row(1, "comedy"), row(7, "comedy")]
    steps, chains = build(tmp_path, rows, samples=1)
    assert steps["rollouts"].total == 2 and steps["rollouts"].notes == {
        "examples without a completion": 1,
        "completions not used": 3,  # two beyond the first of their example, one of no example
    }
    assert [(chain["example_id"], chain["answer"]) for chain in chains] == [("0", "comedy")]
    assert chains[0]["completion"] == CHAIN + "comedy"


def test_a_bad_row_is_named(tmp_path):
    with pytest.raises(DataError, match=r"rollouts.jsonl:2: needs task, example_id and completion"):
        build(tmp_path, [row(0, "comedy"), {"task": "lamp-2", "completion": "x"}])
    with pytest.raises(DataError, match=r"rollouts.jsonl:1: must be an object"):
        build(tmp_path, [["comedy"]])


def test_the_file_and_the_teacher_go_together():
    for values in ({"teacher": "written"}, {"written": "rollouts.jsonl"}):
        with pytest.raises(ValidationError, match="go together"):
            ChainSettings(**values)


OWN = (
    "- {name: look, definition: Looks.}\n- {name: weigh, definition: Weighs.}\n- {name: decide, definition: Decides.}\n"
)
OWN_CHAIN = "<think>\n<look> A film. </look>\n<weigh> It is funny. </weigh>\n<decide> Comedy. </decide>\n</think>\n"


def own_tags(folder: Path, content: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(content)
    return path


def test_written_chains_keep_ones_own_tags(tmp_path):
    """Before, the file was silently ignored: every such chain fell as unknown_tag."""
    rows = [row(0, "", completion=OWN_CHAIN + "comedy"), row(1, "comedy")]
    steps, chains = build(tmp_path, rows, vocabulary=own_tags(tmp_path, OWN))
    assert [chain["tags"] for chain in chains] == [["look", "weigh", "decide"]]
    assert steps["format_filter"].notes == {"unknown_tag": 1}  # the one with the paper's tags
    assert load_vocabulary(tmp_path / "out" / "vocabulary.yaml").names == ("look", "weigh", "decide")


def test_the_heuristic_teacher_writes_ones_own_tags_if_they_cover_its_own(tmp_path):
    paper = load_vocabulary().names
    members = [paper[:3], paper[3:6], paper[6:]]
    names = ("look", "weigh", "decide")
    mapped = "".join(f"- {{name: {n}, members: [{', '.join(m)}]}}\n" for n, m in zip(names, members, strict=True))
    tasks, train = two_tasks(24)
    plain, own = tmp_path / "plain", tmp_path / "own"
    build_chains(ChainSettings(samples=4), tasks, train, shown, StageContext(plain))
    build_chains(
        ChainSettings(samples=4, vocabulary=own_tags(tmp_path, mapped)), tasks, train, shown, StageContext(own)
    )
    places = {member: name for name, group in zip(names, members, strict=True) for member in group}
    before, after = read_chains(plain), read_chains(own)
    assert before and [chain.answer for chain in before] == [chain.answer for chain in after]
    for old, new in zip(before, after, strict=True):
        assert new.tags == tuple(places[tag] for tag in old.tags) and set(new.tags) <= set(names)
        assert parse_response(new.completion, load_vocabulary(own / "vocabulary.yaml")).well_formed


def test_a_note_that_holds_tags_is_quoted_and_opens_and_ends_nothing(tmp_path):
    """Before, under tags of one's own, a KeyError; under the paper's, the note could write steps of its own."""
    task = load_task("package-changelog")
    notes = ("Fix </examine_examples> <b> typo.", "Fix </examine_examples> <make_decision> end none <a> typo.")
    history = tuple(Interaction(str(number), {"note": note}) for number, note in enumerate(notes))
    train = [
        Example(f"e{word}", f"u{word}", task.name, f"fix {word} typo", f"Fix {word} typo.", history) for word in "abcd"
    ]

    def prompted(task, example):
        return SimpleNamespace(messages=[], entries=example.profile, cuts={})

    content = "".join(f"- {{name: own_{name}, members: [{name}]}}\n" for name in load_vocabulary().names)
    for folder, vocabulary in (("paper", "paper"), ("own", own_tags(tmp_path, content))):
        context = StageContext(tmp_path / folder)
        settings = ChainSettings(samples=4, vocabulary=vocabulary)
        build_chains(settings, {task.name: task}, {task.name: train}, prompted, context)
        chains = read_chains(tmp_path / folder)
        assert chains and all("<\\/examine_examples> <\\" in chain.completion for chain in chains)
        for chain in chains:
            response = parse_response(chain.completion, load_vocabulary(tmp_path / folder / "vocabulary.yaml"))
            assert response.well_formed and len(response.segments) == 3
            if folder == "paper":
                example = next(one for one in train if one.id == chain.example_id)
                assert not check_evidence(response, Shown.of(task, example, history)).false


def test_a_vocabulary_without_a_place_for_the_heuristic_tags_is_refused(tmp_path):
    settings = ChainSettings(vocabulary=own_tags(tmp_path, OWN))
    with pytest.raises(RecipeError, match=r"my\.yaml: has no tag for analyze_input, .* of the heuristic teacher; list"):
        build_chains(settings, {"lamp-2": TASK}, TRAIN, lambda task, example: None, StageContext(tmp_path / "out"))


@pytest.mark.parametrize("teacher", [{}, {"teacher": "written", "written": "rollouts.jsonl"}])
def test_tags_cannot_be_discovered_in_tagged_chains(teacher):
    with pytest.raises(ValidationError, match="are tagged already; give a vocabulary"):
        ChainSettings(vocabulary="discover", **teacher)


def test_what_is_written_is_what_is_parsed():
    steps = [("look", "A film."), ("decide", "It is a < b.")]
    response = parse_response(write_completion(steps, "comedy"), Vocabulary.of(["look", "decide"]))
    assert response.well_formed and [(s.tag, s.text) for s in response.segments] == steps
    assert response.answer == "comedy"
