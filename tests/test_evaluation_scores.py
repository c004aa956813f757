"""Statistics, bootstrap, predictions, trivial baselines the results file: by scikit-learn, rouge-score, plain loops."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from fake_run import build_fake_run, fake_examples
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.split import Splits
from tagpr.errors import DataError, RunError
from tagpr.evaluation.columns import read_columns
from tagpr.evaluation.evaluate import trivial_baselines
from tagpr.evaluation.groups import Group
from tagpr.evaluation.predictions import Prediction, chain_of, read_predictions, rescore, write_predictions
from tagpr.evaluation.results import CUT_OFF, OF_CHAINS, Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.experiments.scores import rescore_predictions
from tagpr.files import read_json
from tagpr.profiles.history_bins import history_bin
from tagpr.report.tables.results import page_table, short_table
from tagpr.report.tables.terminal import to_terminal
from tagpr.statistics import Bootstrap, bootstrap_sums, mean_interval, paired_bootstrap
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


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    monkeypatch.setattr("tagpr.evaluation.columns.ROWS", 64)


def points(task, answers, targets):
    """The card's metrics, as `score` has them."""
    rows = [
        Prediction(f"{place}", "user", answer, answer, target, {}, 0.0, True, (), (), 1, 1, None)
        for place, (answer, target) in enumerate(zip(answers, targets, strict=True))
    ]
    found = read_columns(task, rows).points()
    return {name: found[name] for name in task.metrics}


def test_answers_that_the_limit_cut_off_are_counted_and_named():
    def rows(finished):
        return [
            Prediction(str(n), f"u{n}", "3", "3", "3", {}, 1.0, True, (), (), 1, 1, ended)
            for n, ended in enumerate(finished)
        ]

    answered = [
        SystemAnswers("base", predictions={"stars": rows([False, False, True])}),
        SystemAnswers("final", predictions={"stars": rows([True, None, True])}),
    ]
    results = score({"stars": RATING}, answered)
    assert [results.tasks["stars"].systems[name].notes for name in ("base", "final")] == [{CUT_OFF: 2}, {}]
    said = ("Cut off at evaluate.max_new_tokens, so that their ends are missing, of 3 answers: base 2.",)
    assert page_table(results, "stars").notes == short_table(results, "stars").notes == said
    assert "base 2" in "".join(to_terminal(short_table(results, "stars")).caption)
    whole = score({"stars": RATING}, answered[1:])
    assert not page_table(whole, "stars").notes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return build_fake_run(tmp_path_factory.mktemp("runs") / "demo", users=30)


def test_statistics_of_labels_equal_sklearn():
    from sklearn import metrics as sklearn

    task = load_task("package-section")
    rng = random.Random(1)
    targets = [rng.choice(task.labels) for _ in range(300)]
    answers = [t if rng.random() < 0.4 else rng.choice([*task.labels, "netdev", ""]) for t in targets]
    found = points(task, answers, targets)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(targets, answers), abs=1e-9)
    f1 = sklearn.f1_score(targets, answers, labels=list(task.labels), average="macro", zero_division=0)
    assert found["f1"] == pytest.approx(f1, abs=1e-9)
    assert found == pytest.approx(score_all(task, answers, targets), abs=1e-12)


def test_statistics_of_ratings_equal_sklearn():
    from sklearn import metrics as sklearn

    rng = random.Random(2)
    targets = [str(rng.randint(1, 5)) for _ in range(200)]
    answers = [str(rng.randint(1, 5)) for _ in targets]
    found = points(RATING, answers, targets)
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
    found = points(task, answers, targets)
    for name in ("rouge1", "rougeL"):
        pairs = zip(targets, answers, strict=True)
        expected = np.mean([scorer.score(target, answer)[name].fmeasure for target, answer in pairs])
        assert found[name] == pytest.approx(expected, abs=1e-9)


def test_bootstrap_sums_draw_whole_clusters():
    columns = np.column_stack([np.arange(6.0), np.ones(6)])
    sums = bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], Bootstrap(400))
    assert set(sums[:, 1]) == {6.0}  # equal clusters: each resample has as many examples
    possible = {a + b + c for a in (1, 5, 9) for b in (1, 5, 9) for c in (1, 5, 9)}
    assert set(sums[:, 0]) <= possible
    assert np.array_equal(sums, bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], Bootstrap(400)))
    assert not np.array_equal(sums, bootstrap_sums(columns, ["a", "a", "b", "b", "c", "c"], Bootstrap(400, seed=1)))


def test_clustered_interval_is_wider_where_a_users_answers_agree():
    rng = np.random.default_rng(0)
    per_user = rng.normal(0.1, 1, 40).repeat(10)
    users = np.arange(40).repeat(10).tolist()
    zero = np.zeros(400)
    alone, together = (
        paired_bootstrap(per_user, zero, None, Bootstrap(2000)),
        paired_bootstrap(per_user, zero, users, Bootstrap(2000)),
    )
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_paired_bootstrap_rejects_unequal_lists():
    with pytest.raises(ValueError, match="equally long"):
        paired_bootstrap([1.0, 2.0], [1.0])


def test_results_hold_every_system_and_difference(run):
    results = Results.read(run / "evaluate" / "results.json")
    assert set(results.tasks) == {"package-section", "package-synopsis"}
    task = results.tasks["package-section"]
    assert task.n == 30 and task.metrics == ("accuracy", "f1") and task.lower_is_better == ()
    stages = ["base", "sft", "guided", "final", "final-other-history"]
    trivial = ["majority", "user-majority", "last-label", "nearest-neighbour"]
    assert list(task.systems) == [*stages, *trivial]
    assert [name for name in results.group(Group.TRIVIAL) if name in task.systems] == trivial
    assert [results.row(name).reasons for name in task.systems] == [True] * 5 + [False] * 4
    for scores in task.systems.values():
        assert set(scores.points) == set(scores.intervals) >= {"accuracy", "f1", "format_rate", "chain_tokens"}
        assert scores.points.keys() <= {"accuracy", "f1", *OF_CHAINS}
        assert all(interval.low <= interval.mean <= interval.high for interval in scores.intervals.values())
    assert set(task.differences["base"]) == set(task.systems) - {"base"}
    for reference, by_system in task.differences.items():
        for name, changes in by_system.items():
            for metric, change in changes.items():
                points = task.systems[name].points[metric] - task.systems[reference].points[metric]
                assert change.mean == pytest.approx(points) and change.low <= change.mean <= change.high
    assert {"sft", "guided", "final-other-history", "user-majority"} <= set(task.differences)
    assert list(results.tasks["package-synopsis"].systems)[5:] == ["nearest-neighbour", "lead-sentence"]


def test_results_read_back_as_they_were_written(run, tmp_path):
    results = Results.read(run / "evaluate" / "results.json")
    results.write(tmp_path / "again.json")
    assert Results.read(tmp_path / "again.json") == results
    assert (tmp_path / "again.json").read_bytes() == (run / "evaluate" / "results.json").read_bytes()
    assert json.loads(results.as_json()) == read_json(tmp_path / "again.json")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "damaged, or of another version"),
        (lambda text: '{"tasks": {"demo": {"n": 3}}}', "systems: Field required"),
        (lambda text: text.replace('"accuracy": ', '"accuracy": "many" or ', 1), "damaged"),
        (lambda text: text.replace('"tasks"', '"task"', 1), "tasks: Field required"),
        (lambda text: text.replace('"mean": ', '"mean": "x", "mean_": ', 1), "mean"),
    ],
)
def test_damaged_results_are_one_line(run, tmp_path, damage, said):
    path = tmp_path / "results.json"
    path.write_text(damage((run / "evaluate" / "results.json").read_text()))
    with pytest.raises(RunError) as caught:
        Results.read(path)
    assert str(path) in str(caught.value) and said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"nowhere.json: cannot be read .* run the stage"):
        Results.read(tmp_path / "nowhere.json")


def test_predictions_round_trip_and_rescore(run, tmp_path):
    path = run / "evaluate" / "predictions" / "final" / "package-section.jsonl"
    rows = read_predictions(path)
    write_predictions(tmp_path / "again.jsonl", rows)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert rescore(load_task("package-section"), rows, load_vocabulary(None)) == rows
    (tmp_path / "bad.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: not a prediction"):
        read_predictions(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[]", ":2: not a prediction (no JSON object)"),
        ('{"target": 5, ...}', ":2: not a prediction (target: input should be a valid string)"),
        ('{"completion": null, ...}', ":2: not a prediction (completion: input should be a valid string)"),
        ('{"claims": "x", ...}', ":2: not a prediction (claims: "),
        ('{"nope": 1, ...}', ":2: not a prediction (nope: "),
        ('{"id": "x", "user": oops}', ":2: not JSON at column 21; "),
        ("[" * 100_000, ":2: not JSON"),
        (None, ": the file is empty; "),
    ],
)
def test_a_predictions_file_that_is_none_is_one_line(run, tmp_path, line, said):
    first = (run / "evaluate" / "predictions" / "final" / "package-section.jsonl").read_text().splitlines()[0]
    path = tmp_path / "mine.jsonl"
    if line is None:
        path.write_text("")
    elif line.endswith(", ...}"):
        path.write_text(f"{first}\n{json.dumps(json.loads(first) | json.loads(line.replace(', ...', '')))}\n")
    else:
        path.write_text(f"{first}\n{line}\n")
    with pytest.raises(DataError) as caught:
        rescore_predictions([path], "package-section")
    assert str(path) + said in str(caught.value) and "\n" not in str(caught.value)


def test_predictions_of_another_task_are_no_row_of_zeros(run, tmp_path):
    path = run / "evaluate" / "predictions" / "final" / "package-section.jsonl"
    with pytest.raises(DataError, match=r"no target of the file is a label of task lamp-2 \(.*name the card"):
        rescore_predictions([path], "lamp-2")
    rows = [replace(row, target=target) for row, target in zip(read_predictions(path), ("4", "good"), strict=False)]
    write_predictions(tmp_path / "ratings.jsonl", rows)
    with pytest.raises(DataError, match=r"ratings\.jsonl:2: target 'good' is no label of task lamp-3"):
        rescore_predictions([tmp_path / "ratings.jsonl"], "lamp-3")


def test_systems_must_answer_the_same_examples(run):
    rows = read_predictions(run / "evaluate" / "predictions" / "final" / "package-section.jsonl")
    with pytest.raises(RunError, match="different examples"):
        task = load_task("package-section")
        systems = [
            SystemAnswers(name, predictions={task.name: own}) for name, own in (("base", rows), ("final", rows[1:]))
        ]
        score({task.name: task}, systems, settings=EvaluationSettings())


def test_trivial_baselines():
    task = load_task("package-section")
    rng = random.Random(0)
    examples = fake_examples(task, 20, 1, rng)
    systems = trivial_baselines({task.name: Splits(task, examples, examples)})
    assert not any(system.reasons for system in systems)
    rows = {system.name: [row.answer for row in system.predictions[task.name]] for system in systems}
    targets = [example.target for example in examples]
    assert len(set(rows["majority"])) == 1
    assert targets.count(rows["majority"][0]) == max(targets.count(label) for label in targets)
    for example, answer in zip(examples, rows["user-majority"], strict=True):
        labels = [item.fields["section"] for item in example.profile]
        assert labels.count(answer) == max(labels.count(label) for label in labels)
    text = load_task("package-synopsis")
    examples = fake_examples(text, 5, 1, rng, hostile=False)
    systems = {system.name: system for system in trivial_baselines({text.name: Splits(text, examples, examples)})}
    leads = [row.answer for row in systems["lead-sentence"].predictions[text.name]]
    assert all(lead.endswith("system.") and "no configuration" not in lead for lead in leads)


def test_one_rule_for_the_extent_of_a_chain():
    assert chain_of("<think>\nso\n</think>\nlibs") == "<think>\nso\n</think>"
    assert chain_of("so</think>libs") == "so</think>"
    assert chain_of(" <think> so") == " <think> so"  # never ended
    assert chain_of("libs") == ""


def test_an_interval_of_a_mean_is_that_of_a_difference_to_nothing():
    values, users = [0.0, 1.0, 1.0, 0.0, 1.0], ["a", "a", "b", "c", "c"]
    assert mean_interval(values, users, Bootstrap(500, 3)) == paired_bootstrap(
        values, [0.0] * 5, users, Bootstrap(500, 3)
    )
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


def test_bins_of_history_length():
    assert [history_bin(n) for n in (0, 1, 2, 3, 7, 8, 31, 32, 500)] == [
        "0", "1", "2-3", "2-3", "4-7", "8-15", "16-31", "32+", "32+",
    ]  # fmt: skip
