"""Predicting: order, resuming after a kill, shards, changed questions; the evaluate stage with a real tiny model."""

import random
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_run import fake_completion, fake_examples
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.data.split import Splits
from tagpr.errors import DataError
from tagpr.evaluation.predict import predict
from tagpr.evaluation.predictions import read_predictions
from tagpr.evaluation.questions import Question, with_other_history
from tagpr.evaluation.results import Results
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.prompts.cuts import Seen
from tagpr.statistics import Interval
from tagpr.systems.protocol import Answer
from tagpr.tasks import load_task

TASK = load_task("package-section")
VOCABULARY = load_vocabulary(None)


class Parrot:
    """Answers each prompt with a fixed completion; raises after `fail_after` calls, as a kill would."""

    def __init__(self, examples, fail_after=None):
        rng = random.Random(0)
        self.texts = {e.id: fake_completion(TASK, e, "final", True, rng) for e in examples}
        self.by_prompt = {tuple(map(ord, e.id)): self.texts[e.id] for e in examples}
        self.batches, self.fail_after = [], fail_after

    def __call__(self, prompts, progress):
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise KeyboardInterrupt
        self.batches.append([tuple(prompt) for prompt in prompts])
        texts = [self.by_prompt[tuple(prompt)] for prompt in prompts]
        return [Answer(text, len(text), True) for text in texts]


@pytest.fixture(scope="module")
def examples():
    return fake_examples(TASK, 23, 1, random.Random(5), hostile=False)


def _questions(examples):
    return [Question(example, tuple(map(ord, example.id)), Seen()) for example in examples]


def _predict(parrot, examples, out, **more):
    return predict(parrot, len, TASK, _questions(examples), VOCABULARY, out, chunk=5, **more)


def test_rows_are_in_the_order_of_the_questions(examples, tmp_path):
    parrot = Parrot(examples)
    seen = []
    rows = _predict(parrot, examples, tmp_path / "t.jsonl", progress=lambda *now: seen.append(now[:2]))
    assert [row.id for row in rows] == [example.id for example in examples]
    assert all(row.completion == parrot.texts[row.id] for row in rows)
    assert all(row.scores == {"accuracy": 1.0} and row.format_ok for row in rows if "and then" not in row.completion)
    lengths = [len(prompt) for batch in parrot.batches for prompt in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert seen[-1] == (23, 23) and {path.name for path in tmp_path.iterdir()} == {"t.jsonl", ".t.fingerprint"}


def test_a_killed_run_keeps_its_chunks_and_ends_the_same(examples, tmp_path):
    _predict(whole := Parrot(examples), examples, tmp_path / "whole.jsonl")
    out = tmp_path / "t.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _predict(first := Parrot(examples, fail_after=3), examples, out)
    assert not out.exists()
    _predict(second := Parrot(examples), examples, out)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert first.batches + second.batches == whole.batches  # nothing answered twice, same batches
    _predict(third := Parrot(examples), examples, out)
    assert third.batches == []


def test_chunks_of_another_model_are_not_used(examples, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        _predict(Parrot(examples, fail_after=3), examples, tmp_path / "t.jsonl", key="one")
    _predict(other := Parrot(examples), examples, tmp_path / "t.jsonl", key="two")
    assert len(other.batches) == 5


def test_shards_share_the_work(examples, tmp_path):
    _predict(Parrot(examples), examples, tmp_path / "whole.jsonl")
    out = tmp_path / "t.jsonl"
    parrots = [Parrot(examples) for _ in range(3)]
    results = [_predict(parrot, examples, out, shard=(i, 3)) for i, parrot in enumerate(parrots)]
    assert [len(parrot.batches) for parrot in parrots] == [2, 2, 1]
    assert results[0] == results[1] == [] and len(results[2]) == 23
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_answers_of_another_model_or_to_other_examples_are_not_kept(examples, tmp_path):
    out = tmp_path / "t.jsonl"
    _predict(Parrot(examples), examples, out, key="one")
    _predict(parrot := Parrot(examples), examples, out, key="two")
    assert len(parrot.batches) == 5
    rows = _predict(parrot := Parrot(examples), examples[:-1], out, key="two")
    assert len(rows) == 22 and len(parrot.batches) == 5


def test_another_history_is_always_somebody_elses(examples):
    changed, donors = with_other_history(examples, seed=3)
    for before, after, donor in zip(examples, changed, donors, strict=True):
        assert after.id == before.id and after.target == before.target and after.input == before.input
        assert donor != before.user_id
        assert after.profile != before.profile
    assert list(with_other_history(examples, seed=3)[1]) == list(donors)
    with pytest.raises(DataError, match="at least two users"):
        with_other_history(examples[:1], seed=0)


def test_a_single_user_has_no_other_history_and_is_evaluated_all_the_same(tmp_path, caplog):
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.evaluation.evaluate import evaluate_systems
    from tagpr.profiles.settings import ProfileSettings
    from tagpr.systems.context import Context, Decoding

    model, rng = build_tiny_model(tmp_path / "model"), random.Random(0)
    data = {TASK.name: Splits(TASK, fake_examples(TASK, 3, 1, rng), fake_examples(TASK, 1, 1, rng))}
    decoding = Decoding(max_new_tokens=8, generation_batch_size=4)
    context = Context(model, {TASK.name: TASK}, tmp_path, VOCABULARY, ProfileSettings(k=3), decoding=decoding, seed=1)
    settings = EvaluationSettings(max_new_tokens=8, resamples=100)
    results = evaluate_systems({"final": model}, data, context, settings)
    assert "final" in {row.name for row in results.systems} and "of one user" in caplog.text
    named = EvaluationSettings(max_new_tokens=8, resamples=100, other_history=(TASK.name,))
    with pytest.raises(DataError, match="at least two users"):
        evaluate_systems({"final": model}, data, context, named)


def test_the_stage_with_a_real_tiny_model(tmp_path):
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.evaluation.evaluate import checkpoint_system, evaluate_systems
    from tagpr.profiles.settings import ProfileSettings
    from tagpr.systems.context import Context, Decoding

    model = build_tiny_model(tmp_path / "model")
    rng = random.Random(0)
    data = {TASK.name: Splits(TASK, fake_examples(TASK, 5, 1, rng), fake_examples(TASK, 6, 1, rng))}
    settings = EvaluationSettings(max_new_tokens=8, resamples=200, chunk=4, generation_batch_size=4)

    decoding = Decoding(max_new_tokens=8, generation_batch_size=4)
    context = Context(model, {TASK.name: TASK}, tmp_path, VOCABULARY, ProfileSettings(k=3), decoding=decoding, seed=1)
    kinds = [type(checkpoint_system(name, model, context)).__name__ for name in ("base", "sft", "guided", "final")]
    assert kinds == ["RAGR", "WithoutRL", "WithoutExploratory", "TagPR"]

    def evaluate(out: Path):
        return evaluate_systems({"base": model, "final": model}, data, replace(context, folder=out), settings)

    results = evaluate(tmp_path / "a")
    assert results == Results.read(tmp_path / "a" / "results.json")
    task = results.tasks[TASK.name]
    assert list(task.systems)[:4] == ["base", "final", "final-other-history", "majority"]
    assert task.systems["base"].points == task.systems["final"].points
    assert task.difference("final", "base") == Interval(0.0, 0.0, 0.0)
    (by_length,) = task.systems["final"].by_history_length[-1:]
    assert by_length.difference.mean == 0 and by_length.score == by_length.reference
    rows = read_predictions(tmp_path / "a" / "predictions" / "final-other-history" / f"{TASK.name}.jsonl")
    heldout = data[TASK.name].heldout[: len(rows)]
    _, donors = with_other_history(heldout, 1)
    assert [row.history for row in rows] == [f"other:{donor}" for donor in donors]
    users = (tmp_path / "a" / "users.csv").read_text().splitlines()
    assert users[0] == "task,setting,user_id,questions,system,score" and len(users) == 1 + 6 * 3
    (tmp_path / "a" / "predictions" / "final" / f"{TASK.name}.jsonl").unlink()
    before = (tmp_path / "a" / "results.json").read_bytes()
    evaluate(tmp_path / "a")
    assert (tmp_path / "a" / "results.json").read_bytes() == before
    leaking = TASK.model_copy(update={"leaks": True})  # on a benchmark that leaks: the base without the history
    data[TASK.name] = replace(data[TASK.name], task=leaking)
    rows = evaluate(tmp_path / "leaks").tasks[TASK.name].systems
    assert list(rows)[:5] == ["base", "final", "final-other-history", "zero-shot", "majority"]


@pytest.mark.parametrize("changed", [{"max_new_tokens": 7}, {"answer_tokens": 7}, {"temperature": 0.5}])
def test_answers_are_kept_by_what_decides_them(tmp_path, changed):
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.evaluation.predict import model_key

    model, usual = build_tiny_model(tmp_path / "model"), EvaluationSettings()
    assert model_key(model, usual) != model_key(model, usual.model_copy(update=changed))


def test_vllm_answers_where_it_is_asked_for(tmp_path, monkeypatch):
    from tagpr.engine.tiny import build_tiny_model
    from tagpr.errors import ModelError
    from tagpr.evaluation.predict import model_key
    from tagpr.systems.backbone import Backbone
    from tagpr.systems.context import Context, Decoding
    from tagpr.systems.cost import Cost

    model = build_tiny_model(tmp_path / "model")
    usual = EvaluationSettings()
    assert model_key(model, usual) != model_key(model, usual.model_copy(update={"engine": "vllm"}))

    def backbone() -> Backbone:
        decoding = Decoding(max_new_tokens=7, engine="vllm")
        return Backbone(Context(model, {}, tmp_path, VOCABULARY, decoding=decoding, seed=3), Cost())

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match="vLLM is not installed"):
        backbone().write([[1]], 7)

    class LLM:
        def __init__(self, folder, **options):
            assert folder == str(model)

        def generate(self, prompts, sampling):
            assert len({one["seed"] for one in sampling}) == 2 and sampling[0]["max_tokens"] == 7
            outs = [SimpleNamespace(token_ids=[*p["prompt_token_ids"], 2], finish_reason="stop") for p in prompts]
            return [SimpleNamespace(outputs=[out]) for out in outs]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **given: given))
    (first,), (second,) = (asked := backbone()).write([[5, 6], [7]], 7)
    assert first.tokens == 2 and second.tokens == 1 and first.finished and second.finished
    assert first.text == asked.tokenizer.decode([5, 6]) and asked.cost.completion_tokens == 5
