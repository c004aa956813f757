"""SFT(-R) and SFT-Ind(-R): the backbone fine-tuned to answer, one model for all tasks or one per task.

Without -R the model learns question and history -> target. With -R it learns the kept chains of stage 0 (tagged
reasoning, then the answer) under the prompt for them; SFT-R is therefore TagPR w/o RL (the paper prints the
same twelve numbers for both), and its model the run's own SFT stage. Settings are the recipe's `sft` block for all of
them. In a run with one task SFT-Ind is SFT: what is equal is trained once and counted for each row.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tagpr.errors import RunError
from tagpr.systems.backbone import Backbone
from tagpr.systems.prompted import Prompted
from tagpr.systems.protocol import Answer, NoOptions
from tagpr.tasks.types import Example


class SFT(Prompted[NoOptions]):
    """One model for all tasks."""

    depends = ("sft",)

    def fit(self, train: Sequence[Example]) -> None:
        """Train what is missing."""
        self.models: dict[str, Path] = {}
        for names in self.parts():
            own = [example for example in train if example.task in names]
            self.models |= dict.fromkeys(names, self.model_of(names, own))
        self._open: tuple[Path, Backbone] | None = None

    def parts(self) -> list[list[str]]:
        """Which tasks share a model."""
        return [sorted(self.context.tasks)]

    def model_of(self, names: Sequence[str], train: Sequence[Example]) -> Path:
        """The model of these tasks, trained on their examples."""
        name = f"sft{'-r' if self.reasons else ''}-{'+'.join(names)}"
        return self.once(name, partial(self._train, train), shared=True) / "model"

    def completions(self, train: Sequence[Example]) -> Mapping[tuple[str, str], Sequence[str]]:
        """What is learned, by task name and example id."""
        return {(example.task, example.id): [example.target] for example in train if example.target}

    def _train(self, train: Sequence[Example], out: Path) -> None:
        from tagpr.systems.rows import training_row
        from tagpr.training.sft import train_sft

        learned = self.completions(train)
        groups = []
        for example in train:
            texts = learned.get((example.task, example.id), ())
            if texts:
                task, weight = self.context.tasks[example.task], self.context.sft.answer_weight
                groups.append(training_row(self.prompts, task, example, texts, weight))
        if not groups:
            raise RunError("no training example has an answer to learn; check data and chains")
        context = self.context
        everyone = {example.user_id for example in train}  # of whom SFT and SFT-R hold out the same
        metrics = train_sft(context.model, groups, context.sft, context.work(out), everyone=everyone)
        self.cost.trained_parameters += metrics.trained_parameters
        self.cost.trained_tokens += metrics.trained_tokens

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """Greedy completions of the task's model."""
        folder = self.models[examples[0].task]
        if self._open is None or self._open[0] != folder:  # one model in memory at a time
            self._open = None
            self._open = folder, Backbone(self.context, self.cost, folder)
        self.backbone = self._open[1]
        return super().predict(examples)


class SFTR(SFT):
    """One model for all tasks, trained on the chains of stage 0."""

    reasons = True
    depends = ("chains", "sft")
    variants = ("w/o-rl",)
    learns_chains = True

    def model_of(self, names: Sequence[str], train: Sequence[Example]) -> Path:
        """The run's own SFT stage if the model is of all tasks, else one trained like it."""
        every = "w/o-rl" in self.context.trained and set(names) == set(self.context.tasks)
        return self.trained("w/o-rl").folder if every else super().model_of(names, train)

    def completions(self, train: Sequence[Example]) -> Mapping[tuple[str, str], Sequence[str]]:
        """The kept chains."""
        if self.context.chains is None:
            raise RunError("this system learns chains of stage 0; run it through `tagpr compare`")
        return self.context.chains


class SFTInd(SFT):
    """One model per task."""

    def parts(self) -> list[list[str]]:
        """One model per task."""
        return [[name] for name in sorted(self.context.tasks)]


class SFTIndR(SFTInd, SFTR):
    """One model per task, trained on the chains of stage 0."""
