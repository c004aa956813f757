"""One cell of the sceptic's table: SFT on labels, chains or both of the same users, then RL on the same labels.

Everything that could favour one side is equal: the users and their questions, the users held out to choose the stopping
by, how often and on what they are evaluated, the optimizer steps and their rate, RL's steps and completions, the test
questions. No pipeline: `train_sft`, `train_gspo` and greedy answers, on one thread.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from microworld import base, plain
from microworld.build import BASE_SEED, HERE
from microworld.worlds import SHOWN, WORLDS, Question, right_chains
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.models import load_tokenizer
from tagpr.engine.text import chat_ids
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import TextModel
from tagpr.progress import StageContext
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.verifiable import find_verifiable
from tagpr.tasks import load_task
from tagpr.tasks.templates import render
from tagpr.training.gspo import train_gspo
from tagpr.training.heldout import greedy_scores
from tagpr.training.job import RLJob
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.training.sft import train_sft
from tagpr.training.sft_rows import hold_out, mixed

logger = logging.getLogger(__name__)

Start = Literal["label", "chain", "mixed"]
STARTS: tuple[Start, ...] = ("label", "chain", "mixed")
TASK = load_task(HERE / "microworld.yaml")
VOCABULARY = load_vocabulary(None)


@dataclass(frozen=True)
class Settings:
    """All sizes of a cell; the same for every world, number of labels and start."""

    pretraining: base.BaseSizes = field(default_factory=base.BaseSizes)
    per_user: int = 8
    """Questions per training user."""
    held_out: float = 0.2
    """Share of the users whose labels only choose the stopping."""
    most_held_out: int = 8
    """Users held out at most."""
    test: int = 256
    """Test questions, each of a user of its own."""
    samples: int = 8
    """Chains the teacher writes per question."""
    keep: int = 2
    """Right ones kept per question."""
    sft_steps: int = 576
    sft_batch: int = 16
    sft_rate: float = 2e-3
    sft_evaluations: int = 6
    """Evaluations on the held-out users, the last after the last step."""
    rl_steps: int = 24
    rl_prompts: int = 16
    rl_group: int = 8
    rl_rate: float = 1e-4
    rl_evaluations: int = 3
    max_new_tokens: int = 40
    decode: int = 256
    """Completions decoded side by side."""


@dataclass(frozen=True)
class Cell:
    """Which world, how many labels, what SFT learns from, which seed."""

    world: str
    labels: int
    start: Start
    seed: int

    @property
    def name(self) -> str:
        """Of its result's file."""
        return f"{self.world}-{self.labels}-{self.start}-{self.seed}"


def build_base(folder: Path, sizes: base.BaseSizes, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """The one base of all cells, pretrained on the plain text of the counting world's people (`plain`), if missing.

    None of that text holds a tagged chain, a mood, or a question of another world. Appears whole or not at all.
    """
    if not (folder / "config.json").is_file():
        random = Random(BASE_SEED)
        asked = [(world, q) for world in WORLDS.values() for q in world.questions(random, "", 200)]
        chains = [world.chain(random, question)[0] for world, question in asked]
        systems = (_system(True), _system(False))
        tokenizer = base.make_tokenizer([*base.all_words(), *chains, *systems], VOCABULARY.names)
        work = folder.with_name(f".{folder.name}.{os.getpid()}")
        base.pretrain(work, tokenizer, systems, SHOWN, sizes, BASE_SEED, progress)
        os.replace(work, folder)
    return folder


def run_cell(cell: Cell, model: Path, work: Path, settings: Settings) -> dict[str, Any]:
    """Accuracy on the test questions without and with RL, and where each training stopped.

    work: a folder for the trainings; removed when the cell is done.
    """
    began = time.process_time()
    data = _Data(cell, model, settings)
    sft = train_sft(
        model,
        data.rows(),
        _sft_settings(settings, data),
        StageContext(work / "sft", seed=cell.seed),
        metric=data.heldout_metric(),
    )
    trained = time.process_time()
    found: dict[str, Any] = {"without_rl": data.test(work / "sft" / "model"), "sft_kept_step": sft.kept_step}
    job = RLJob(
        work / "sft" / "model",
        [data.asked(q, cell.start != "label") for q in data.train],
        data.reward(),
        _rl_settings(settings),
        StageContext(work / "rl", seed=cell.seed),
        heldout=[data.asked(q, cell.start != "label") for q in data.heldout],
    )
    rl = train_gspo(job)
    found |= {"with_rl": data.test(work / "rl" / "model"), "rl_kept_step": rl.kept_step}
    found |= {
        "trained_users": len({q.user_id for q in data.train}),
        "heldout_users": len({q.user_id for q in data.heldout}),
        "questions_with_chains": data.with_chains,
        "cpu_seconds": {"sft": round(trained - began, 1), "all": round(time.process_time() - began, 1)},
    }
    shutil.rmtree(work)
    return found


class _RightAnswer:
    """R_v alone, for policies that answer without a chain."""

    def __init__(self) -> None:
        self.verifiable = find_verifiable(RewardSettings())

    def components(self, completions: Sequence[str], target: Sequence[str], **_: object) -> list[dict[str, float]]:
        """R_v of each completion, which is the reward too."""
        values = [self.verifiable(TASK, text, right) for text, right in zip(completions, target, strict=True)]
        return [{"reward": value, "verifiable": value} for value in values]

    def __call__(self, prompts: Sequence[object], completions: Sequence[str], **columns: Any) -> list[float]:
        """TRL's protocol."""
        return [row["reward"] for row in self.components(completions, **columns)]


class _Data:
    """A cell's questions in token ids. Which they are depends on world, labels and seed, not on the start."""

    def __init__(self, cell: Cell, model: Path, settings: Settings) -> None:
        self.cell, self.settings = cell, settings
        self.tokenizer = load_tokenizer(model)
        world = WORLDS[cell.world]
        random = Random(f"{cell.world}-{cell.seed}")
        users = cell.labels // settings.per_user
        tests = [q for i in range(settings.test) for q in world.questions(random, f"test-{i:03d}", 1)]
        asked = [q for i in range(users) for q in world.questions(random, f"user-{i:03d}", settings.per_user)]
        self.users_out = min(settings.most_held_out, max(1, round(users * settings.held_out)))
        labels = [self._group(q, False, [q.answer]) for q in asked]
        _, out = hold_out(labels, self.users_out, cell.seed)
        away = {group.user_id for group in out}
        self.train = [q for q in asked if q.user_id not in away]
        self.heldout = [q for q in asked if q.user_id in away]
        self.tests, self.labels = tests, labels
        random = Random(f"{cell.world}-{cell.seed}-teacher")
        chains = [(q, right_chains(world, random, q, settings.samples, settings.keep)) for q in asked]
        self.chains = [self._group(q, True, texts) for q, texts in chains if texts]
        self.with_chains = len(self.chains)

    def rows(self) -> list[TrainingRow]:
        """What SFT is given, the held-out users' rows among it: `train_sft` takes out those that we take out here."""
        if self.cell.start == "label":
            return self.labels
        rows = self.chains if self.cell.start == "chain" else mixed(self.chains, self.labels, 0.5, self.cell.seed)
        away = {group.user_id for group in hold_out(rows, self.users_out, self.cell.seed)[1]}
        assert away == {question.user_id for question in self.heldout}, "a user without any right chain"
        return rows

    def heldout_metric(self) -> Callable[[TextModel], float]:
        """Greedy accuracy on the held-out users; the later of equals is the better, since it saw more."""
        rows = [self.asked(question, self.cell.start != "label") for question in self.heldout]
        calls = 0

        def accuracy(model: TextModel) -> float:
            nonlocal calls
            calls += 1
            return self._accuracy(model, rows) + calls * 1e-6

        return accuracy

    def test(self, folder: Path) -> dict[str, float]:
        """Accuracy on the test questions, asked as SFT asked; of mixed SFT also when asked for the bare answer."""
        model = TransformersModel.load(folder, self.settings.decode)
        tagged = self.cell.start != "label"
        found = {"accuracy": self._accuracy(model, [self.asked(q, tagged) for q in self.tests])}
        if self.cell.start == "mixed":
            found["accuracy_without_chain"] = self._accuracy(model, [self.asked(q, False) for q in self.tests])
        return found

    def asked(self, question: Question, tagged: bool) -> TrainingRow:
        """A prompt to roll out, with the columns that rewards read."""
        prompt = self._prompt(question, tagged)
        return TrainingRow(prompt, task=TASK.name, user_id=question.user_id, target=question.answer)

    def reward(self) -> "CompositeReward | _RightAnswer":
        """The paper's R without PRMU (eq. 5, gamma 0); for label SFT, which has no chain, R_v."""
        if self.cell.start == "label":
            return _RightAnswer()
        return CompositeReward({TASK.name: TASK}, VOCABULARY, RewardSettings(gamma=0.0))

    def _accuracy(self, model: TextModel, rows: Sequence[TrainingRow]) -> float:
        reward = CompositeReward({TASK.name: TASK}, VOCABULARY, RewardSettings(gamma=0.0))
        right = greedy_scores(model, rows, reward, GSPOSettings(max_new_tokens=self.settings.max_new_tokens))
        return sum(right["verifiable"]) / len(rows)

    def _prompt(self, question: Question, tagged: bool) -> list[int]:
        user = f"{plain.history_text(question.past)} now {' '.join(question.dish)}"
        turns = [{"role": "system", "content": _system(tagged)}, {"role": "user", "content": user}]
        return chat_ids(self.tokenizer, turns)

    def _group(self, question: Question, tagged: bool, texts: Sequence[str]) -> TrainingRow:
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        completions = [[*own, self.tokenizer.eos_token_id] for own in ids]
        return TrainingRow(self._prompt(question, tagged), completions, user_id=question.user_id)


def _system(tagged: bool) -> str:
    source = (HERE / "templates" / "system.jinja").read_text(encoding="utf-8")
    return render(source, {"task": TASK, "tags": list(VOCABULARY.names) if tagged else []}).strip()


def _sft_settings(settings: Settings, data: _Data) -> SFTSettings:
    per_epoch = -(-len(_without(data.rows(), data.heldout)) // settings.sft_batch)
    every = settings.sft_steps // settings.sft_evaluations
    return SFTSettings(
        learning_rate=settings.sft_rate,
        epochs=settings.sft_steps / per_epoch,
        batch_size=settings.sft_batch,
        tokens_per_forward=8192,
        heldout_users=data.users_out,
        heldout_every=every,
        save_steps=every,
        keep="best",
    )


def _without(rows: Sequence[TrainingRow], heldout: Sequence[Question]) -> list[TrainingRow]:
    away = {question.user_id for question in heldout}
    return [row for row in rows if row.user_id not in away]


def _rl_settings(settings: Settings) -> GSPOSettings:
    return GSPOSettings(
        learning_rate=settings.rl_rate,
        decay="linear",
        steps=settings.rl_steps,
        prompts_per_step=settings.rl_prompts,
        group_size=settings.rl_group,
        groups="verifiable",
        scale_rewards="batch",
        epsilon_low=0.02,
        epsilon_high=0.03,
        max_new_tokens=settings.max_new_tokens,
        tokens_per_forward=8192,
        generation_batch_size=settings.decode,
        samples_per_step=0,
        save_steps=settings.rl_steps,
        heldout_every=settings.rl_steps // settings.rl_evaluations,
        keep="best",
    )
