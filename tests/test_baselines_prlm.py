"""PrLM: the contrastive reward model learns a planted marker; R by hand; GRPO's loss by hand; the whole system."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RunError
from tagpr.files import read_json, read_jsonl, write_json
from tagpr.progress import StageContext
from tagpr.systems import Context, Decoding, load_system
from tagpr.systems.encoders import TextEncoder
from tagpr.systems.fit_settings import PrLMFit
from tagpr.systems.fitting import fit_module
from tagpr.systems.prlm_reward import AnswerPair, ContrastiveReward, PrLMReward, quality
from tagpr.systems.registry import read_options
from tagpr.tasks import Example, Interaction, load_task
from tagpr.tasks.rouge import rouge2
from tagpr.training.gspo import train_gspo
from tagpr.training.gspo_objective import grpo_loss, gspo_loss
from tagpr.training.job import RLJob
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings
from tiny_encoder import build_tiny_encoder

PLAIN = ["small", "fast", "new", "old", "red", "green", "tool", "set"]
MARKS = ["lovely", "cheerful", "bright", "sweet"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder"), [*PLAIN, *MARKS, "x"])


def encoder(folder: Path) -> TextEncoder:
    return TextEncoder(str(folder), 32, "encoder").eval()


def planted(n: int, seed: int, marked: bool) -> list[AnswerPair]:
    """Answers made with the profile carry one of four words somewhere; without marks nothing tells them apart."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(n):
        answers = [rng.choices(PLAIN, k=4) for _ in range(2)]
        if marked:
            answers[0][rng.randrange(4)] = rng.choice(MARKS)
        pairs.append(AnswerPair(" ".join(rng.choices(PLAIN, k=3)), *(" ".join(words) for words in answers)))
    return pairs


def test_the_reward_model_learns_what_the_profile_adds(encoder_folder, tmp_path) -> None:
    torch.set_num_threads(1)
    accuracy = {}
    for marked, n in ((True, 400), (False, 160)):
        model = ContrastiveReward(encoder(encoder_folder), planted(n, 0, marked), 0)
        settings = PrLMFit(learning_rate=2e-3, epochs=5, batch_size=16, micro_batch_size=16, save_steps=1000)
        fit_module(model, n, settings, StageContext(tmp_path / str(marked)))
        accuracy[marked] = model.accuracy(planted(200, 1, marked))
    assert accuracy[True] >= 0.9 and 0.4 <= accuracy[False] <= 0.6, accuracy


def test_reward_is_the_formula(encoder_folder) -> None:
    tasks = {name: load_task(name) for name in ("package-section", "package-synopsis", "lamp-3")}
    seen = []

    def personal(questions, answers):
        seen.extend(zip(questions, answers, strict=True))
        return [0.25] * len(questions)

    reward = PrLMReward(tasks, load_vocabulary(), {(1, 2): "asked"}, personal)
    good = "<think>\n<analyze_input>x</analyze_input>\n</think>\na small mail tool"
    texts = [good, "a small mail tool", "<think>\nonly thinking"]
    names, targets = ["package-synopsis"] * 3, ["a mail tool"] * 3
    rows = reward.components(texts, names, targets, [(1, 2)] * 3)
    # 3 of 4 and 3 words: ROUGE-1 and ROUGE-L 6/7; 1 of 3 and 2 pairs of words in common with "mail tool": ROUGE-2 2/5
    assert rows[0]["quality"] == pytest.approx(6 / 7 + 2 / 5 + 6 / 7)
    assert rows[0]["reward"] == pytest.approx(rows[0]["quality"] + 0.1 + 0.1 * 0.25)
    assert rows[1]["reward"] == pytest.approx(rows[1]["quality"] + 0.1 * 0.25)
    assert seen[0] == ("asked", "a small mail tool")
    assert quality(tasks["package-section"], "Libs", "libs") == 3
    assert quality(tasks["lamp-3"], "4", "5") == pytest.approx(3 * 0.75)
    empty = reward.components(["<think>\n<analyze_input>x"], names[:1], targets[:1], [(1, 2)])[0]
    assert empty["reward"] == 0 and math.isfinite(rows[2]["reward"])


def test_rouge2_equals_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge2"])
    rng = random.Random(0)
    for _ in range(200):
        a, b = (" ".join(rng.choices(["a", "b", "c", "d", "e"], k=rng.randrange(8))) for _ in range(2))
        assert rouge2(a, b) == pytest.approx(scorer.score(b, a)["rouge2"].fmeasure, abs=1e-9)


def test_grpo_loss_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    old = [torch.randn(n, generator=generator) for n in (3, 1, 5)]
    new = [(o + 0.3 * torch.randn(len(o), generator=generator)).requires_grad_(True) for o in old]
    advantages = torch.tensor([1.0, -0.5, 2.0])
    result = grpo_loss(new, old, advantages, 0.1, 0.2)
    for loss, a, n, o in zip(result.loss.tolist(), advantages.tolist(), new, old, strict=True):
        terms = []
        for p, q in zip(n.tolist(), o.tolist(), strict=True):
            r = math.exp(p - q)
            terms.append(min(r * a, min(max(r, 0.9), 1.2) * a))
        assert loss == pytest.approx(-sum(terms) / len(terms), rel=1e-5)
    # one token: the same as GSPO; unchanged weights: minus the advantage, nothing clipped
    one = gspo_loss(new[1:2], old[1:2], advantages[1:2], 0.1, 0.2)
    assert torch.allclose(result.loss[1], one.loss[0])
    still = grpo_loss(old, old, advantages, 0.1, 0.2)
    assert torch.allclose(still.loss, -advantages) and not still.clipped.any()


def test_grpo_raises_a_reward_in_the_stages_loop(tmp_path) -> None:
    tiny = build_tiny_model(tmp_path / "tiny")

    def vowels(prompts, completions, **_):
        return [sum(c in "aeiou" for c in text) / (len(text) + 1) for text in completions]

    settings = GSPOSettings(
        learning_rate=3e-3, steps=24, prompts_per_step=4, group_size=6, max_new_tokens=6, epsilon_low=0.2,
        epsilon_high=0.2, save_steps=100, precision="fp32", tokens_per_forward=512,
    )  # fmt: skip
    rows = [TrainingRow([10 + i, 11 + i, 12 + i]) for i in range(4)]
    metrics = train_gspo(RLJob(tiny, rows, vowels, settings, StageContext(tmp_path / "out"), objective=grpo_loss))
    log = read_jsonl(tmp_path / "out" / "log.jsonl")
    first, last = (sum(row["reward"] for row in part) / 3 for part in (log[:3], log[-3:]))
    assert last > first + 0.05 and metrics.trained_parameters > 0


def people(n: int, task: str) -> list[Example]:
    past = tuple(Interaction(f"p{i}", {"synopsis": f"small {w} set", "section": "libs"}) for i, w in enumerate(PLAIN))
    return [
        Example(f"e{i}", f"u{i}", task, f"{PLAIN[i % 8]} tool", "libs", past, fields={"synopsis": "fast tool"})
        for i in range(n)
    ]


def test_the_system_trains_both_models_and_continues(encoder_folder, tmp_path) -> None:
    cls = load_system("prlm")
    task = load_task("package-section")
    given = {
        "encoder": str(encoder_folder),
        "prompts": 12,
        "fit": {"epochs": 1},
        "grpo": {"steps": 2, "prompts_per_step": 2, "group_size": 2, "learning_rate": 1e-3, "precision": "fp32"},
    }
    options = read_options("prlm", cls, given)
    assert options.grpo.temperature == 0.7 and options.grpo.epsilon_low == 0.2 and options.fit.batch_size == 16
    context = Context(
        build_tiny_model(tmp_path / "tiny"), {task.name: task}, tmp_path / "w", load_vocabulary(),
        decoding=Decoding(max_new_tokens=8, answer_tokens=4),
    )  # fmt: skip
    answers = []
    for _ in range(2):
        system = cls(context, options)
        system.fit(people(12, task.name))
        answers.append(system.predict([replace(e, target=None) for e in people(3, task.name)]))
    assert answers[0] == answers[1] and len(answers[0]) == 3
    assert system.reasons and system.cost.trained_tokens > 0 and system.cost.completion_tokens > 0
    about = read_json(tmp_path / "w" / "reward" / "pairs.json")
    assert about["train"] > 0 and set(about) == {"train", "heldout", "heldout_accuracy"}
    log = read_jsonl(tmp_path / "w" / "policy" / "log.jsonl")
    assert len(log) == 2 and {"reward/quality", "reward/format", "reward/personal"} <= set(log[0])
    write_json(tmp_path / "w" / "pairs" / "pairs.json", [])
    with pytest.raises(RunError, match="prlm: no pair to learn from"):
        system._fit_reward(tmp_path / "nothing")


def test_special_words_in_texts_are_text(encoder_folder) -> None:
    own = encoder(encoder_folder)
    ids = own.tokens(["small [SEP] tool"], ["[CLS] red"])["input_ids"][0].tolist()
    assert ids.count(own.tokenizer.sep_token_id) == 2 and ids.count(own.tokenizer.cls_token_id) == 1
