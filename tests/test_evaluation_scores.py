"""Statistics, bootstrap, predictions and sanity rows: against scikit-learn, rouge-score and plain loops."""

import random

import numpy as np
import pytest

from fake_run import build_fake_run, fake_examples
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import DataError, RunError
from tagpr.evaluation.evaluate import sanity_answers
from tagpr.evaluation.predictions import read_predictions, rescore, write_predictions
from tagpr.evaluation.scoring import score_task
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.evaluation.statistics import task_statistics, values
from tagpr.files import read_json
from tagpr.statistics import bootstrap_sums, paired_bootstrap
from tagpr.tasks import Kind, Task, load_task
from tagpr.tasks.metrics import score_all

RATING = Task(
    name="stars",
    kind=Kind.RATING,
    description="",
    instruction="",
    entry="{{ text }}",
    input_fields=("text",),
    output_field="score",
    labels=("1", "2", "3", "4", "5"),
    metrics=("mae", "rmse"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_fake_run(tmp_path_factory.mktemp("runs") / "demo", users=30)


def test_statistics_of_labels_equal_sklearn():
    from sklearn import metrics as sklearn

    task = load_task("package-section")
    rng = random.Random(1)
    targets = [rng.choice(task.labels) for _ in range(300)]
    answers = [t if rng.random() < 0.4 else rng.choice([*task.labels, "netdev", ""]) for t in targets]
    found = values(task_statistics(task, answers, targets))
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(targets, answers), abs=1e-9)
    f1 = sklearn.f1_score(targets, answers, labels=list(task.labels), average="macro", zero_division=0)
    assert found["f1"] == pytest.approx(f1, abs=1e-9)
    assert found == pytest.approx(score_all(task, answers, targets), abs=1e-12)


def test_statistics_of_ratings_equal_sklearn():
    from sklearn import metrics as sklearn

    rng = random.Random(2)
    targets = [str(rng.randint(1, 5)) for _ in range(200)]
    answers = [str(rng.randint(1, 5)) for _ in targets]
    found = values(task_statistics(RATING, answers, targets))
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(list(map(int, targets)), list(map(int, answers))))
    rmse = sklearn.root_mean_squared_error(list(map(int, targets)), list(map(int, answers)))
    assert found["rmse"] == pytest.approx(rmse, abs=1e-9)
    assert found == pytest.approx(score_all(RATING, answers, targets), abs=1e-12)


def test_statistics_of_texts_equal_rouge_score():
    from rouge_score import rouge_scorer as scorer_module

    task = load_task("package-synopsis")
    scorer = scorer_module.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    rng = random.Random(3)
    words = ["a", "b", "c", "parser", "tool", "for", "reading", "network", "files", "fast", "library", "shared"]
    targets = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(200)]
    answers = [" ".join(rng.choices(words, k=rng.randint(0, 9))) for _ in targets]
    found = values(task_statistics(task, answers, targets))
    for name in ("rouge1", "rougeL"):
        pairs = zip(targets, answers, strict=True)
        expected = np.mean([scorer.score(target, answer)[name].fmeasure for target, answer in pairs])
        assert found[name] == pytest.approx(expected, abs=1e-9)


def test_bootstrap_sums_draw_whole_clusters():
    columns = np.column_stack([np.arange(6.0), np.ones(6)])
    sums = bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], 400, seed=0)
    assert set(sums[:, 1]) == {6.0}  # equal clusters: each resample has as many examples
    possible = {a + b + c for a in (1, 5, 9) for b in (1, 5, 9) for c in (1, 5, 9)}
    assert set(sums[:, 0]) <= possible
    assert np.array_equal(sums, bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], 400, seed=0))
    assert not np.array_equal(sums, bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], 400, seed=1))


def test_clustered_interval_is_wider_where_a_users_answers_agree():
    rng = np.random.default_rng(0)
    per_user = rng.normal(0.1, 1, 40).repeat(10)
    users = np.arange(40).repeat(10).tolist()
    zero = np.zeros(400)
    alone, together = paired_bootstrap(per_user, zero, None, 2000), paired_bootstrap(per_user, zero, users, 2000)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_paired_bootstrap_rejects_unequal_lists():
    with pytest.raises(ValueError, match="equally long"):
        paired_bootstrap([1.0, 2.0], [1.0])


def test_metrics_have_the_published_schema(run):
    metrics = read_json(run / "evaluate" / "metrics.json")
    assert set(metrics) == {"tasks"} and set(metrics["tasks"]) == {"package-section", "package-synopsis"}
    block = metrics["tasks"]["package-section"]
    assert block["n"] == 30
    assert list(block["systems"]) == ["base", "sft", "guided", "final", "final-other-history"]
    for system in block["systems"].values():
        assert set(system) == {"accuracy", "f1", "format_rate", "chain_tokens"}
    assert set(block["difference_to_base"]) == set(block["systems"]) - {"base"}
    for change in block["difference_to_base"].values():
        for interval in change.values():
            assert set(interval) == {"mean", "low", "high"} and interval["low"] <= interval["mean"] <= interval["high"]
    for metric in ("accuracy", "f1"):
        expected = block["systems"]["final"][metric] - block["systems"]["base"][metric]
        assert block["difference_to_base"]["final"][metric]["mean"] == pytest.approx(expected)
    assert {"final - sft", "final - final-other-history", "final - user-majority"} <= set(block["differences"])
    assert set(block["sanity"]) == {"majority", "user-majority", "last-label", "nearest-neighbour"}
    assert set(metrics["tasks"]["package-synopsis"]["sanity"]) == {"nearest-neighbour", "lead-sentence"}


def test_predictions_round_trip_and_rescore(run, tmp_path):
    path = run / "evaluate" / "predictions" / "final" / "package-section.jsonl"
    rows = read_predictions(path)
    write_predictions(tmp_path / "again.jsonl", rows)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert rescore(load_task("package-section"), rows, load_vocabulary(None)) == rows
    (tmp_path / "bad.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: not a prediction"):
        read_predictions(tmp_path / "bad.jsonl")


def test_systems_must_answer_the_same_examples(run):
    rows = read_predictions(run / "evaluate" / "predictions" / "final" / "package-section.jsonl")
    with pytest.raises(RunError, match="different examples"):
        score_task(load_task("package-section"), {"base": rows, "final": rows[1:]}, settings=EvaluationSettings())


def test_sanity_rows():
    task = load_task("package-section")
    rng = random.Random(0)
    examples = fake_examples(task, 20, 1, rng)
    rows = sanity_answers(task, examples, examples)
    targets = [example.target for example in examples]
    assert len(set(rows["majority"])) == 1
    assert targets.count(rows["majority"][0]) == max(targets.count(label) for label in targets)
    for example, answer in zip(examples, rows["user-majority"], strict=True):
        labels = [item.fields["section"] for item in example.profile]
        assert labels.count(answer) == max(labels.count(label) for label in labels)
    text = load_task("package-synopsis")
    examples = fake_examples(text, 5, 1, rng, hostile=False)
    leads = sanity_answers(text, examples, examples)["lead-sentence"]
    assert all(lead.endswith("system.") and "no configuration" not in lead for lead in leads)
