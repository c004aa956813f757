"""The PRMU stage: roll the policy out on the questions, make preference pairs, train, diagnose.

What comes in is in token ids already (`tagpr.prmu.questions`, `tagpr.prmu.histories`); each step is a room of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr import processes
from tagpr.chains.vocabulary import Vocabulary
from tagpr.files import write_json, write_text
from tagpr.prmu.data import PairSet, Rollout, card_text, read_pairs, write_pairs
from tagpr.prmu.histories import histories_of
from tagpr.prmu.human_pairs import human_pairs
from tagpr.prmu.metrics import PRMUMetrics
from tagpr.prmu.pairs import build_pairs
from tagpr.prmu.questions import PairQuestion
from tagpr.prmu.settings import PRMUSettings
from tagpr.progress import StageContext
from tagpr.tasks.types import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tagpr.engine.types import Completion
    from tagpr.prompts.prompt_builder import PromptBuilder

Histories = Mapping[str, Sequence[Sequence[int]]]
"""Token ids of past items, by user."""


def make_prmu(
    policy: Path,
    backbone: Path,
    questions: Sequence[PairQuestion],
    histories: Histories | None,
    tokenizer: "PreTrainedTokenizerBase",
    vocabulary: Vocabulary,
    settings: PRMUSettings,
    context: StageContext,
) -> PRMUMetrics:
    """Write `pairs.parquet`, `pairs.json` (counts), `model` and `diagnosis.json` into `context.out`; return metrics.

    policy: the SFT checkpoint that is rolled out on `questions`, unless human pairs are all there is. histories: for
    profile-encoded users. Pairs that are there already are kept (a killed stage goes on). Of several processes the
    first makes and diagnoses, and all train.
    """
    from tagpr.prmu.diagnose import diagnose
    from tagpr.prmu.score import PRMU
    from tagpr.prmu.trainer import train_prmu

    out, seed = context.out, context.seed
    path = out / "pairs.parquet"
    if processes.is_first() and not path.is_file():
        made = PairSet((), {})
        if settings.uses_rollouts:
            made = build_pairs(_rollouts(policy, questions, vocabulary, settings, context), settings, seed)
        if settings.pairs is not None:
            made = PairSet((*made.pairs, *human_pairs(settings, tokenizer, seed)), made.dropped)
        write_json(out / "pairs.json", made.card())
        write_text(out / "pairs.md", card_text(made.card()))
        write_pairs(path, made.pairs)
    processes.wait()
    pairs = read_pairs(path)
    with processes.whole_weights():  # a reward model is small beside the policy
        metrics = train_prmu(backbone, pairs, settings, context, histories, tokenizer)
    if processes.is_first() and any(pair.split != "train" for pair in pairs):
        diagnosis = diagnose(PRMU.from_pretrained(out / "model"), pairs, seed, histories)
        write_json(out / "diagnosis.json", diagnosis)
        metrics = replace(metrics, words=diagnosis["words"])
    return metrics


def _rollouts(
    policy: Path,
    questions: Sequence[PairQuestion],
    vocabulary: Vocabulary,
    settings: PRMUSettings,
    context: StageContext,
) -> list[Rollout]:
    from tagpr.engine.transformers_model import TransformersModel
    from tagpr.engine.types import Sampling, TextModel
    from tagpr.engine.vllm_server import VLLMServer
    from tagpr.prmu.policy_rollouts import make_rollouts

    server, kept = settings.rollout_server, context.out / "checkpoints" / "rollouts"
    model: TextModel = VLLMServer.of(server, policy, kept) if server else TransformersModel.load(policy)

    def report(done: int, total: int, note: str) -> None:
        context.progress(done, total, "rollouts")

    def sample(ids: list[list[int]], count: int, number: int) -> list[list["Completion"]]:
        sampling = Sampling(settings.max_new_tokens, count, settings.temperature, seed=context.seed + number)
        return model.generate(ids, sampling, report)

    return make_rollouts(sample, questions, vocabulary, settings)


def scorer(
    folder: Path, tasks: Mapping[str, Task], train: Mapping[str, Sequence[Example]], prompts: "PromptBuilder"
) -> Callable[[Sequence[str], Sequence[Sequence[int]], Sequence[Sequence[int]]], list[float]]:
    """R_PRMU for RL (`CompositeReward(prmu=...)`) by the model in `folder`, with histories if unknown users are to
    be encoded.
    """
    from tagpr.prmu.score import PRMU

    prmu = PRMU.from_pretrained(folder)
    if prmu.on_unknown != "encode":
        return prmu.score
    return partial(prmu.score, histories=histories_of(tasks, train, prompts))
