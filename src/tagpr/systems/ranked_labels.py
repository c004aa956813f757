"""Base without a format floor: the untrained model ranks a task's labels instead of writing one.

An untrained small model seldom writes a bare label, so that its accuracy as text says little about what it knows.

- `base-likelihood`: the label y with the highest log p(y | prompt) after RAG's prompt. The end token counts, so that no
  label wins by being the beginning of another.
- `base-calibrated`: minus the label's mean over training questions, whose answers are not read. That mean is the prior
  the model gives a label whatever it is asked: contextual calibration (Zhao et al., arXiv 2102.09690), with the mean
  over real questions of batch calibration (Zhou et al., arXiv 2309.17249) in place of a question without content.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import Field

from tagpr.errors import RunError
from tagpr.files import read_json, write_json
from tagpr.settings import Settings
from tagpr.systems.prompted import RAG
from tagpr.systems.protocol import Answer, NoOptions, OptionsT
from tagpr.tasks.types import Example, Task


class RankedLabels(RAG[OptionsT]):
    """Answers with the best label. Subclasses say what a label's score is."""

    def covers(self, task: Task) -> bool:
        """Tasks whose card lists the answers."""
        return bool(task.labels)

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """The best label of each example; the first of equals."""
        labels = self.context.tasks[examples[0].task].labels
        return [
            Answer(labels[max(range(len(labels)), key=row.__getitem__)], finished=True, seen=self.seen(example))
            for example, row in zip(examples, self.scores(examples), strict=True)
        ]

    def scores(self, examples: Sequence[Example]) -> list[list[float]]:
        """What the labels are ranked by: a number per example (of one task) and label."""
        return self.log_likelihoods(examples)

    def log_likelihoods(self, examples: Sequence[Example]) -> list[list[float]]:
        """log p(label, end | prompt) of every label of the examples' task, in nats; each prompt is run once."""
        import torch

        from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs, micro_batches
        from tagpr.engine.text import learned_ids

        labels = self.context.tasks[examples[0].task].labels
        endings = [learned_ids(self.backbone.tokenizer, label) for label in labels]
        groups = [PromptGroup(self.prompt_ids(example), endings) for example in examples]
        rows: list[list[float]] = [[] for _ in examples]
        done = 0
        for part in micro_batches(groups, self.context.sft.tokens_per_forward, self.backbone.model.device):
            with torch.no_grad():
                logps = completion_logprobs(self.backbone.model, [groups[i] for i in part])
            sums = torch.stack([own.sum() for own in logps]).view(len(part), len(labels))
            for i, row in zip(part, sums.tolist(), strict=True):
                rows[i] = row
            done += len(part)
            self.context.progress(done, len(groups), "labels ranked")
        self.cost.prompt_tokens += sum(group.tokens for group in groups)
        return rows


class BaseLikelihood(RankedLabels[NoOptions]):
    """Labels by likelihood."""


class CalibratedOptions(Settings):
    """Options of `base-calibrated`."""

    questions: int = Field(default=64, ge=1)
    """Training questions of a task, the first ones, over which a label's prior is the mean."""


class BaseCalibrated(RankedLabels[CalibratedOptions]):
    """Labels by likelihood over the model's own prior."""

    Options = CalibratedOptions

    def fit(self, train: Sequence[Example]) -> None:
        """Take the labels' priors from training questions."""

        def make(work: Path) -> None:
            for name, task in self.context.tasks.items():
                asked = [example for example in train if example.task == name][: self.options.questions]
                if asked and self.covers(task):
                    columns = zip(*self.log_likelihoods(asked), strict=True)
                    write_json(work / f"{name}.json", [sum(column) / len(asked) for column in columns])

        self._folder = self.once(f"priors-{self.options.questions}", make)

    @cached_property
    def priors(self) -> Mapping[str, list[float]]:
        """Mean log-likelihood of every label, by task name."""
        paths = {name: self._folder / f"{name}.json" for name in self.context.tasks}
        return {name: read_json(path) for name, path in paths.items() if path.is_file()}

    def scores(self, examples: Sequence[Example]) -> list[list[float]]:
        """Log-likelihoods minus the priors. Raises RunError for a task without training questions."""
        prior = self.priors.get(examples[0].task)
        if prior is None:
            raise RunError(f"{examples[0].task}: no training question to take the labels' prior from")
        return [[own - mean for own, mean in zip(row, prior, strict=True)] for row in self.log_likelihoods(examples)]
