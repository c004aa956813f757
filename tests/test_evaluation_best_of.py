"""Best of N: each way of choosing takes what it says, and the evaluate stage has a row of each."""

from pathlib import Path

import pytest

from tagpr.engine.types import Completion
from tagpr.evaluation.best_of import Candidates, by_evidence, by_likelihood, by_reward, by_vote
from tagpr.evaluation.results import Results
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.tasks.types import Example


def candidates(user: str, *drawn: tuple[str, float]) -> Candidates:
    completions = [Completion([len(text), 2], [logprob, logprob], True, text) for text, logprob in drawn]
    return Candidates(Example("e", user, "t", "q", None), (1, 2), completions)


def test_each_way_of_choosing() -> None:
    one = candidates("ann", ("b", -1.0), ("aaa", -3.0), ("aaa", -2.0), ("", -0.1))
    assert by_likelihood(one.completions) == 3
    assert by_vote(one.completions, lambda text: text) == 2  # the likelier of two that agree; no answer has no vote
    assert by_vote(candidates("ann", ("", -1.0), ("", -0.5)).completions, lambda text: text) == 1
    likes_long = lambda users, prompts, ids: [row[0] if user == "ann" else -row[0] for user, row in zip(users, ids)]  # noqa: E731, B905
    assert by_reward([one, candidates("bob", ("b", -1.0), ("aaa", -3.0))], likes_long) == [1, 0]


def test_an_answer_counts_for_the_truth_of_its_chains() -> None:
    truth = {"b1": 1.0, "a1": 0.5, "a2": 0.4, "a3": 0.0, "1": 1.0}.__getitem__
    answer_of = lambda text: text[0].strip("1")  # noqa: E731
    one = candidates("ann", ("a1", -2.0), ("a2", -1.0), ("a3", -0.1), ("b1", -3.0), ("1", -0.1)).completions
    assert by_vote(one, answer_of) == 2  # the likeliest of three
    assert by_evidence(one, answer_of, truth) == 3  # one true chain outweighs three that hold .9 together
    assert by_evidence(one, answer_of, lambda text: 1.0) == 2  # all equally true: the vote
    assert by_evidence(one, answer_of, lambda text: 0.0) == 2  # nothing claimed: the vote, the likeliest
    truer = candidates("ann", ("a2", -1.0), ("a1", -2.0), ("b1", -3.0), ("a1", -1.5)).completions
    assert by_evidence(truer, answer_of, truth) == 3  # a: 1.4 for 1; its truest, of two the likelier
    assert by_evidence(candidates("ann", ("1", -1.0), ("1", -0.5)).completions, answer_of, truth) == 1  # no answer


@pytest.mark.slow
def test_the_evaluate_stage_has_a_row_of_each(tmp_path: Path) -> None:
    small = ["guided.steps=1", "exploratory.steps=1", "evaluate.max_new_tokens=8", "evaluate.systems=[final]"]
    small += ["evaluate.best_of=3", "evaluate.other_history=false", "evaluate.limit=4", "prmu.prompts=8"]
    run = Run.open("smoke", small, tmp_path)
    make(run, "data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate")
    table = Results.read(run.folder.results)
    for block in table.tasks.values():
        rows = [name for name in block.systems if name.startswith("best-of-")]
        assert rows == [f"best-of-3-{way}" for way in ("prmu", "likelihood", "majority", "evidence")]


@pytest.mark.slow
def test_without_prmu_the_rival_answers_as_often(tmp_path: Path) -> None:
    small = ["evaluate.max_new_tokens=8", "evaluate.systems=[sft,labels]", "evaluate.best_of=3", "evaluate.limit=4"]
    small += ["evaluate.best_of_by=[majority,evidence]", "guided.steps=1", "exploratory.steps=1", "rewards.gamma=0"]
    run = Run.open("smoke", small, tmp_path)
    make(run, "data", "chains", "sft", "labels", "guided", "exploratory", "evaluate")  # no reward model
    for block in Results.read(run.folder.results).tasks.values():
        rows = [name for name in block.systems if "best-of-" in name]
        assert rows == ["labels-best-of-3-majority", "best-of-3-majority", "best-of-3-evidence"]
