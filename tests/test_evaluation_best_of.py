"""Best of N: each way of choosing takes what it says, and the evaluate stage has a row of each."""

from pathlib import Path

import pytest

from tagpr.engine.types import Completion
from tagpr.evaluation.best_of import Candidates, by_likelihood, by_reward, by_vote
from tagpr.evaluation.results import Results
from tagpr.pipeline import make
from tagpr.runs import Run
from tagpr.tasks.types import Example


def candidates(user: str, *drawn: tuple[str, float]) -> Candidates:
    completions = [Completion([len(text), 2], [logprob, logprob], True, text) for text, logprob in drawn]
    return Candidates(Example("e", user, "t", "q", None), (1, 2), completions)


def test_each_way_of_choosing() -> None:
    one = candidates("ann", ("b", -1.0), ("aaa", -3.0), ("aaa", -2.0), ("", -0.1))
    assert by_likelihood(one) == 3
    assert by_vote(one, lambda text: text) == 2  # the likelier of the two that agree; no answer has no vote
    assert by_vote(candidates("ann", ("", -1.0), ("", -0.5)), lambda text: text) == 1
    likes_long = lambda users, prompts, ids: [row[0] if user == "ann" else -row[0] for user, row in zip(users, ids)]  # noqa: E731, B905
    assert by_reward([one, candidates("bob", ("b", -1.0), ("aaa", -3.0))], likes_long) == [1, 0]


@pytest.mark.slow
def test_the_evaluate_stage_has_a_row_of_each(tmp_path: Path) -> None:
    small = ["guided.steps=1", "exploratory.steps=1", "evaluate.max_new_tokens=8", "evaluate.systems=[final]"]
    small += ["evaluate.best_of=3", "evaluate.other_history=false", "evaluate.limit=4", "prmu.prompts=8"]
    run = Run.open("smoke", small, tmp_path)
    make(run, "data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate")
    table = Results.read(run.folder.results)
    for block in table.tasks.values():
        rows = [name for name in block.systems if name.startswith("best-of-")]
        assert rows == ["best-of-3-prmu", "best-of-3-likelihood", "best-of-3-majority"]
