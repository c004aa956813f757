"""The analyses beyond the paper on constructed answers, and the sweeps with a real tiny model."""

import random
from dataclasses import replace

import pytest

from fake_run import fake_examples
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.settings import DataSettings
from tagpr.data.split import Splits
from tagpr.evaluation.analyses import Analyses, exchange_labels, profile_use
from tagpr.evaluation.breakdown import by_history_length, by_seen_user, who_loses
from tagpr.evaluation.evidence import Evidence, evidence
from tagpr.evaluation.predictions import Prediction, judge
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.profiles.settings import ProfileSettings, Retriever
from tagpr.statistics import Bootstrap
from tagpr.tasks import load_task

TASK = load_task("package-section")
VOCABULARY = load_vocabulary(None)


def _row(example, answer, chain=""):
    text = f"<think>\n<examine_examples> {chain or 'x'} </examine_examples>\n</think>\n{answer}"
    parsed = judge(TASK, text, example.target, VOCABULARY)
    return Prediction(
        id=example.id,
        user_id=example.user_id,
        completion=text,
        target=example.target,
        tokens=9,
        chain_tokens=8,
        finished=True,
        **parsed,
    )


@pytest.fixture(scope="module")
def examples():
    return fake_examples(TASK, 30, 1, random.Random(2), hostile=False)


def _wrong(example):
    return next(label for label in TASK.labels if label != example.target)


def test_profile_use_counts_moved_answers_and_lost_quality(examples):
    own = [_row(e, e.target) for e in examples]
    half = [_row(e, _wrong(e)) if i % 2 else own[i] for i, e in enumerate(examples)]
    found = profile_use(TASK, own, half, Bootstrap(500))
    assert found.moved.mean == 0.5 and found.quality.mean == -0.5 and found.quality.high < 0
    assert profile_use(TASK, own, own, Bootstrap(100)).moved.mean == 0
    with pytest.raises(ValueError, match="same questions"):
        profile_use(TASK, own, own[1:])


def test_changed_labels_are_one_permutation_without_fixed_points(examples):
    changed = exchange_labels(TASK, examples, seed=0)
    for before, after in zip(examples, changed, strict=True):
        assert (after.id, after.input, after.target) == (before.id, before.input, before.target)
        seen = {}
        for a, b in zip(before.profile, after.profile, strict=True):
            assert a.fields["synopsis"] == b.fields["synopsis"] and a.fields["section"] != b.fields["section"]
            assert seen.setdefault(a.fields["section"], b.fields["section"]) == b.fields["section"]
        assert len(set(seen.values())) == len(seen)
    with pytest.raises(ValueError, match="no labels"):
        exchange_labels(load_task("package-synopsis"), examples, 0)


def test_evidence_tells_quotations_of_the_history_from_inventions(examples):
    example = examples[0]
    real = example.profile[0].fields["synopsis"]
    chains = f'"{real.upper()}" and "{example.input[:20]}" and "a submarine of cheese" and "ab"'
    found = evidence([_row(example, "x", chains)], [example])
    assert found == Evidence(3, 1, 1) and found.hallucinated == pytest.approx(1 / 3)
    assert evidence([_row(example, "x")], [example]).hallucinated is None


def test_cold_start_bins_by_history_length(examples):
    cut = [replace(e, profile=e.profile[: i % 3]) for i, e in enumerate(examples)]
    rows, base = [_row(e, e.target) for e in cut], [_row(e, _wrong(e)) for e in cut]
    found = by_history_length(rows, base, cut)
    assert [(row.items, row.n) for row in found] == [("0", 10), ("1", 10), ("2-3", 10)]
    assert all(row.score == 1 and row.reference == 0 and row.difference.mean == 1 for row in found)
    by_seen = by_seen_user(rows, base, {cut[0].user_id})
    assert by_seen["seen"].n == 1 and by_seen["unseen"].n == 29


def test_who_loses_lists_the_heaviest_first(examples):
    two = [examples[0], replace(examples[0], id="again"), examples[1], examples[2]]
    base = [_row(e, e.target) for e in two]
    rows = [base[0], _row(two[1], _wrong(two[1])), _row(two[2], _wrong(two[2])), base[3]]
    found = who_loses(rows, base)
    assert [(loser.user_id, loser.change) for loser in found] == [(two[2].user_id, -1.0), (two[0].user_id, -0.5)]
    assert found[1].cases == ("again",)


def test_sweeps_and_analyses_with_a_real_tiny_model(tmp_path):
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.experiments.analyse import practitioner
    from tagpr.experiments.interview import Interview
    from tagpr.recipe import Recipe
    from tagpr.runs import Run

    model = build_tiny_model(tmp_path / "model")
    rng = random.Random(0)
    evaluate = EvaluationSettings(max_new_tokens=6, resamples=100)
    recipe = Recipe(name="mine", model=str(model), data=DataSettings(), profile=ProfileSettings(k=2), evaluate=evaluate)
    run = Run(recipe, tmp_path / "mine")
    run.data = {TASK.name: Splits(TASK, fake_examples(TASK, 4, 1, rng), fake_examples(TASK, 5, 1, rng))}
    interview = Interview(run, {"base": model, "labels": model, "final": model})
    own = {name: interview.questions(name, TASK.name, interview.heldout(TASK.name)) for name in ("labels", "final")}
    for name, reasons in (("labels", False), ("final", True)):  # a label model never saw a word about tags
        prompts = interview.context.prompts(reasons)
        assert [q.prompt_ids for q in own[name]] == [
            tuple(prompts.ids(TASK, example)) for example in interview.heldout(TASK.name)
        ]
    assert own["labels"][0].prompt_ids != own["final"][0].prompt_ids
    interview = Interview(run, {"base": model, "final": model})
    profile = recipe.profile
    lengths = interview.sweep("length", {str(k): profile.model_copy(update={"k": k}) for k in (0, 2)})
    assert list(lengths) == ["0", "2"] and set(lengths["2"].tasks[TASK.name].systems) == {"base", "final"}
    ways = (Retriever.RECENCY, Retriever.BM25, Retriever.RANDOM)
    retrievers = interview.sweep("retriever", {str(r): profile.model_copy(update={"retriever": r}) for r in ways})
    block = practitioner(interview)[TASK.name]
    assert set(block.profile_use["final"]) == {"other", "none", "exchanged"}
    assert block.who_loses == () and block.evidence["final"].quotations >= 0
    path = tmp_path / "out" / "analyses.json"
    replace(Analyses.read(path), profile_length=lengths).write(path)
    replace(Analyses.read(path), retriever=retrievers).write(path)
    found = Analyses.read(path)
    assert (found.profile_length, found.retriever, found.practitioner) == (lengths, retrievers, {})
