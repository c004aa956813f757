"""A cell's questions in token ids: which train, choose the stopping, test; their chains, labels, prompts, rewards."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from microworld import plain
from microworld.build import HERE
from microworld.cell import FEW, Cell, Settings, Start
from microworld.worlds import FIRST_FORMS, WORLDS, Question, right_chain
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.models import load_tokenizer
from tagpr.engine.text import chat_ids
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import TextModel
from tagpr.errors import RunError
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.verifiable import find_verifiable
from tagpr.tasks import load_task
from tagpr.tasks.templates import render
from tagpr.training.heldout import greedy_scores
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings
from tagpr.training.sft_rows import hold_out, mixed

TASK = load_task(HERE / "microworld.yaml")
VOCABULARY = load_vocabulary(None)
TAGGED = re.compile(r"<(\w+_\w+)>(.*?)</\1>")


class CellData:
    """A cell's questions in token ids. Which they are depends on world, labels and seed, not on the start."""

    def __init__(self, cell: Cell, model: Path, settings: Settings) -> None:
        self.cell, self.settings = cell, settings
        self.tagged = cell.start not in ("label", "label-long", "untagged")
        self.tokenizer = load_tokenizer(model)
        world = (FIRST_FORMS if cell.start == "first-form" else WORLDS)[cell.world]
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
        chains = [(q, right_chain(world, random, q, settings.samples)) for q in asked]
        shown = [(q, _with_tags(text, cell.start, random)) for q, text in chains if text is not None]
        self.chains = [self._group(q, self.tagged, [text]) for q, text in shown]
        self.with_chains = len(self.chains)

    def rows(self) -> list[TrainingRow]:
        """What SFT is given, the held-out users' rows among it: `train_sft` takes out those that we take out here."""
        if self.cell.start in ("label", "label-long"):
            return self.labels
        if self.cell.start == FEW:  # its users are all learnt from, and the last weights kept
            some = {question.user_id for question in self.train[: self.settings.few]}
            return [row for row in self.chains if row.user_id in some]
        rows = mixed(self.chains, self.labels, 0.5, self.cell.seed) if self.cell.start == "mixed" else self.chains
        away = {group.user_id for group in hold_out(rows, self.users_out, self.cell.seed)[1]}
        assert away == {question.user_id for question in self.heldout}, "a user without any right chain"
        return rows

    def heldout_metric(self) -> Callable[[TextModel], float]:
        """Greedy accuracy on the held-out users; the later of equals is the better, since it saw more."""
        rows = [self.asked(question) for question in self.heldout]
        calls = 0

        def accuracy(model: TextModel) -> float:
            nonlocal calls
            calls += 1
            return self._accuracy(model, rows) + calls * 1e-6

        return accuracy

    def test(self, folder: Path) -> dict[str, float]:
        """Accuracy on the test questions, asked as SFT asked; of mixed SFT also when asked for the bare answer."""
        model = TransformersModel.load(folder, self.settings.decode)
        found = {"accuracy": self._accuracy(model, [self.asked(q) for q in self.tests])}
        if self.cell.start == "mixed":
            found["accuracy_without_chain"] = self._accuracy(model, [self.asked(q, chain=False) for q in self.tests])
        return found

    def asked(self, question: Question, chain: bool = True) -> TrainingRow:
        """A prompt to roll out as SFT asked, or for the bare answer, with the columns that rewards read."""
        prompt = self._prompt(question, self.tagged and chain)
        return TrainingRow(prompt, task=TASK.name, user_id=question.user_id, target=question.answer)

    def reward(self) -> "CompositeReward | _RightAnswer":
        """The paper's R without PRMU (eq. 5, gamma 0); for label SFT, which has no chain, R_v."""
        if not self.tagged:
            return _RightAnswer()
        return CompositeReward({TASK.name: TASK}, VOCABULARY, RewardSettings(gamma=0.0))

    def _accuracy(self, model: TextModel, rows: Sequence[TrainingRow]) -> float:
        reward = CompositeReward({TASK.name: TASK}, VOCABULARY, RewardSettings(gamma=0.0))
        right = greedy_scores(model, rows, reward, GSPOSettings(max_new_tokens=self.settings.max_new_tokens))
        return sum(right["verifiable"]) / len(rows)

    def _prompt(self, question: Question, tagged: bool) -> list[int]:
        user = f"{plain.history_text(question.past)} now {' '.join(question.dish)}"
        turns = [{"role": "system", "content": system_turn(tagged)}, {"role": "user", "content": user}]
        return chat_ids(self.tokenizer, turns)

    def _group(self, question: Question, tagged: bool, texts: Sequence[str]) -> TrainingRow:
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        if any(self.tokenizer.unk_token_id in own for own in ids):
            raise RunError(f"the base does not know every word of {texts}; remove its folder, it is an older world's")
        completions = [[*own, self.tokenizer.eos_token_id] for own in ids]
        return TrainingRow(self._prompt(question, tagged), completions, user_id=question.user_id)


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


def _with_tags(text: str, start: Start, random: Random) -> str:
    """A chain as `start` shows it: the teacher's tags, tags by lot, or none."""
    if start == "untagged":
        return TAGGED.sub(r"\2", text)
    if start == "shuffled":
        return TAGGED.sub(lambda found: "<{0}>{1}</{0}>".format(random.choice(VOCABULARY.names), found[2]), text)
    return text


def system_turn(tagged: bool) -> str:
    """The prompts' system turn, with the list of tags or without."""
    source = (HERE / "templates" / "system.jinja").read_text(encoding="utf-8")
    return render(source, {"task": TASK, "tags": list(VOCABULARY.names) if tagged else []}).strip()
