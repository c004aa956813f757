"""Best of N: each way of choosing takes what it says, and the evaluate stage has a row of each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tagpr.engine.types import Completion, Sampling
from tagpr.errors import RecipeError
from tagpr.evaluation.best_of import Candidates, agreement, by_evidence, by_likelihood, by_reward, by_vote
from tagpr.evaluation.draws import Draw, kept_draws
from tagpr.evaluation.predictions import read_predictions
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


def test_draws_are_kept(tmp_path: Path) -> None:
    asked: list[object] = []

    def draw(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        asked.append(prompts)
        return [[Completion([*ids, 2], [-0.1, -1 / 3], True, "é", place) for place in range(2)] for ids in prompts]

    sampling = Sampling(8, 2, 0.7)
    first = kept_draws(tmp_path, "model", [[1], [3]], sampling, draw)
    assert kept_draws(tmp_path, "model", [[1], [3]], sampling, draw) == first and len(asked) == 1
    for other in (("other model", [[1], [3]], sampling), ("model", [[1], [4]], sampling)):
        kept_draws(tmp_path, *other, draw)
    kept_draws(tmp_path, "model", [[1], [3]], replace(sampling, temperature=1.0), draw)
    assert len(asked) == 4 and len(list(tmp_path.iterdir())) == 4
    for path in tmp_path.iterdir():  # half a file, as a failing disk leaves it
        path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert kept_draws(tmp_path, "model", [[1], [3]], sampling, draw) == first and len(asked) == 5


def test_agreement_is_the_share_of_equal_answers() -> None:
    drawn = candidates("ann", ("b", -1.0), ("a", -1.0), ("a", -2.0), ("", -1.0)).completions
    assert [agreement(drawn, place, lambda text: text) for place in range(4)] == [0.25, 0.5, 0.5, 0.0]


def test_somebody_has_to_choose(tmp_path: Path) -> None:
    only = ["evaluate.systems=[labels]", "evaluate.best_of=3"]
    with pytest.raises(RecipeError, match="best_of_by: `labels` writes no chains"):
        Run.open("smoke", [*only, "evaluate.best_of_by=[prmu,evidence]"], tmp_path)
    Run.open("smoke", [*only, "evaluate.best_of_by=[evidence,majority]"], tmp_path)


@pytest.mark.slow
def test_without_prmu_the_rival_answers_as_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["evaluate.max_new_tokens=8", "evaluate.systems=[sft,labels]", "evaluate.best_of=3", "evaluate.limit=4"]
    small += ["evaluate.best_of_by=[majority,evidence]", "guided.steps=1", "exploratory.steps=1", "rewards.gamma=0"]
    run = Run.open("smoke", small, tmp_path)
    make(run, "data", "chains", "sft", "labels", "guided", "exploratory")  # no reward model
    with monkeypatch.context() as patched:  # killed when the first row of SFT's is there

        def killed(*_: object) -> int:
            raise KeyboardInterrupt

        patched.setattr("tagpr.evaluation.best_of.by_evidence", killed)
        with pytest.raises(KeyboardInterrupt):
            make(run, "evaluate")
    assert len(list(tmp_path.rglob(".draws/*.jsonl"))) == 2  # a chunk of each task
    with monkeypatch.context() as patched:  # what was drawn is not drawn again
        once = kept_draws

        def kept(folder: Path, key: str, prompts: Any, sampling: Sampling, draw: Draw) -> Any:
            return once(folder, key, prompts, sampling, lambda *_: pytest.fail("drawn again"))

        patched.setattr("tagpr.evaluation.best_of.kept_draws", kept)
        make(run, "evaluate")
    assert not list(tmp_path.rglob(".draws"))
    for path in run.folder.predictions.glob("*best-of-3-majority/*.jsonl"):
        for row in read_predictions(path):
            assert row.extra["agreement"] in (0, 1 / 3, 2 / 3, 1) and (row.extra["agreement"] > 0) == bool(row.answer)
    for block in Results.read(run.folder.results).tasks.values():
        rows = [name for name in block.systems if "best-of-" in name]
        assert rows == ["labels-best-of-3-majority", "best-of-3-majority", "best-of-3-evidence"]
