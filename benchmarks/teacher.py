"""How good the teacher without a model is, and whether what it says is true.

    python benchmarks/teacher.py        # two minutes; writes benchmarks/results/teacher.json

By bundled task, on every held-out example: the correctness (the card's) of the teacher's own answer with the person's
history, with another person's, and with none; the trivial baselines; and of training examples (every one of change
notes, 200 of the other tasks) how many get a right chain, and the share of true claims in all chains sampled. Intervals
are 95% over users.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from results_file import write_results
from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.data.split import Splits
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.evaluation.questions import with_other_history
from tagpr.profiles import ProfileSettings, Retriever, choose
from tagpr.statistics import mean_interval
from tagpr.tasks import Example
from tagpr.tasks.metrics import correctness

TASKS = {
    "package-changelog": (Retriever.RECENCY, 5, 3, None),
    "package-section": (Retriever.BM25, 6, 1, 200),
    "package-synopsis": (Retriever.BM25, 6, 1, 200),
}
"""Task -> retriever, items shown, least history of a user, training examples to sample chains for (None: all)."""
SAMPLES = 8


def measure(splits: Splits, profile: ProfileSettings, count: int | None) -> dict[str, object]:
    """The figures of one task."""
    task, heldout = splits.task, splits.heldout
    teacher = HeuristicTeacher(task, splits.train, 0)
    users = [example.user_id for example in heldout]

    def interval(answers: Sequence[str]) -> dict[str, float]:
        scores = [correctness(task, a, e.target or "") for a, e in zip(answers, heldout, strict=True)]
        return asdict(mean_interval(scores, users))

    def asked(examples: Sequence[Example]) -> list[str]:
        return [teacher.best(example, choose(task, example, profile, 0)) for example in examples]

    right = claims = false = 0
    vocabulary = load_vocabulary()
    sampled = splits.train if count is None else splits.train[:: max(1, len(splits.train) // count)][:count]
    for example in sampled:
        entries = choose(task, example, profile, 0)
        responses = [parse_response(text, vocabulary) for text in teacher.sample(example, entries, SAMPLES)]
        reports = [check_evidence(response, Shown.of(task, example, entries)) for response in responses]
        claims += sum(len(report.claims) for report in reports)
        false += sum(len(report.false) for report in reports)
        right += any(correctness(task, r.answer, example.target or "") >= task.correct_from for r in responses)
    return {
        "heldout": len(heldout),
        "users": len(set(users)),
        "teacher": interval(asked(heldout)),
        "teacher, another user's history": interval(asked(with_other_history(heldout, 0)[0])),
        "teacher, no history": interval(asked([replace(example, profile=()) for example in heldout])),
        **{
            baseline.name: interval([row.answer for row in baseline.predictions[task.name]])
            for baseline in trivial_baselines({task.name: splits})
        },
        "training examples with a right chain": right / len(sampled),
        "training examples sampled": len(sampled),
        "claims": claims,
        "false claims": false,
    }


def main() -> None:
    """Measure every bundled task and write the file."""
    figures = {}
    for name, (retriever, shown, least, count) in TASKS.items():
        source = SourceSettings(task=name, min_history=least)
        splits = load_splits(DataSettings(sources=(source,)), 0, Path())[name]
        figures[name] = measure(splits, ProfileSettings(retriever=retriever, k=shown), count)
    write_results("teacher", "python benchmarks/teacher.py", figures)


if __name__ == "__main__":
    main()
