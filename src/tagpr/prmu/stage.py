"""The PRMU stage: roll the policy out, make preference pairs, train, diagnose. Each step is a function of this room."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.chains.vocabulary import Vocabulary
from tagpr.files import write_json, write_text
from tagpr.prmu.data import card_text, read_pairs, write_pairs
from tagpr.prmu.pairs import build_pairs
from tagpr.prmu.past_pairs import items_of
from tagpr.prmu.settings import PRMUSettings
from tagpr.tasks.types import Example, Task

if TYPE_CHECKING:
    from tagpr.engine.types import Completion
    from tagpr.prompts.prompt_builder import PromptBuilder

Progress = Callable[[int, int, str], None]


def make_prmu(
    policy: Path,
    backbone: Path,
    tasks: Mapping[str, Task],
    train: Mapping[str, Sequence[Example]],
    prompts: "PromptBuilder",
    vocabulary: Vocabulary,
    settings: PRMUSettings,
    out: Path,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write `out/pairs.parquet`, `out/pairs.json` (counts), `out/model` and `out/diagnosis.json`; return metrics.

    policy: the SFT checkpoint that is rolled out. Pairs that are there already are kept (a killed stage goes on).
    """
    from tagpr.prmu.diagnose import diagnose
    from tagpr.prmu.score import PRMU
    from tagpr.prmu.trainer import train_prmu

    path = out / "pairs.parquet"
    if not path.is_file():
        rollouts = _rollouts(policy, tasks, train, prompts, vocabulary, settings, seed, progress)
        made = build_pairs(rollouts, settings, seed)
        write_json(out / "pairs.json", made.card())
        write_text(out / "pairs.md", card_text(made.card()))
        write_pairs(path, made.pairs)
    pairs = read_pairs(path)
    histories = histories_of(tasks, train, prompts) if settings.user_option == "profile-encoded" else None
    metrics: dict[str, Any] = {
        **train_prmu(backbone, pairs, settings, out, seed, progress, histories, prompts.tokenizer)
    }
    if any(pair.split != "train" for pair in pairs):
        diagnosis = diagnose(PRMU.from_pretrained(out / "model"), pairs, seed, histories)
        write_json(out / "diagnosis.json", diagnosis)
        metrics["words"] = diagnosis["words"]
    return metrics


def _rollouts(
    policy: Path,
    tasks: Mapping[str, Task],
    train: Mapping[str, Sequence[Example]],
    prompts: "PromptBuilder",
    vocabulary: Vocabulary,
    settings: PRMUSettings,
    seed: int,
    progress: Progress | None,
) -> list[Any]:
    from tagpr.engine.transformers_model import TransformersModel
    from tagpr.engine.types import Sampling
    from tagpr.prmu.policy_rollouts import choose_examples, choose_users, make_rollouts

    model = TransformersModel.load(policy)

    def report(done: int, total: int, note: str) -> None:
        if progress is not None:
            progress(done, total, "rollouts")

    def sample(ids: list[list[int]], count: int, number: int) -> list[list["Completion"]]:
        return model.generate(ids, Sampling(settings.max_new_tokens, count, settings.temperature, seed=number), report)

    if settings.prompts_per_user is None:
        chosen = choose_examples(train, settings.prompts, seed)
    else:
        chosen = choose_users(train, settings.prompts, settings.prompts_per_user, seed)
    return make_rollouts(
        sample,
        tasks,
        chosen,
        [prompts.ids(tasks[example.task], example) for example in chosen],
        [prompts.ids(tasks[example.task], example, with_profile=False) for example in chosen],
        vocabulary,
        settings,
        seed,
    )


def scorer(
    folder: Path, tasks: Mapping[str, Task], train: Mapping[str, Sequence[Example]], prompts: "PromptBuilder"
) -> Callable[[Sequence[str], Sequence[Any], Sequence[Any]], list[float]]:
    """R_PRMU for RL (`CompositeReward(prmu=...)`) by the model in `folder`, with histories if unknown users are to
    be encoded.
    """
    from tagpr.prmu.score import PRMU

    prmu = PRMU.from_pretrained(folder)
    if prmu.on_unknown != "encode":
        return prmu.score
    return partial(prmu.score, histories=histories_of(tasks, train, prompts))


def histories_of(
    tasks: Mapping[str, Task], train: Mapping[str, Sequence[Example]], prompts: "PromptBuilder"
) -> dict[str, list[tuple[int, ...]]]:
    """Token ids of every user's past items, worded as in the prompts."""
    histories: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in sorted(train):
        for example in train[name]:
            known = histories.setdefault(example.user_id, {})
            fresh = [item for item in example.profile if item.id not in known]
            known.update(zip((item.id for item in fresh), items_of(tasks[name], fresh, prompts), strict=True))
    return {user: list(items.values()) for user, items in histories.items()}
