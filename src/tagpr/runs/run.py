"""`Run`: a recipe with its folder. What several stages need of it is loaded once, when first used.

A run knows where its files are, what has been made, what that cost, its seed and where progress is shown, so that none
of these travels by itself. Making stages is `tagpr.pipeline`'s.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.data import Splits, read_examples
from tagpr.errors import RecipeError, RunError
from tagpr.prmu.metrics import PRMUMetrics
from tagpr.progress import Progress, silent
from tagpr.prompts.prompt_builder import PromptBuilder
from tagpr.recipe import Recipe, load_recipe, recipe_folder
from tagpr.runs.layout import RunFolder
from tagpr.runs.manifest import Manifest, read_manifest
from tagpr.stages import StageName
from tagpr.systems.context import Context, Decoding
from tagpr.systems.cost import Cost
from tagpr.tasks.cards import read_tasks
from tagpr.tasks.types import Example, Task
from tagpr.training.metrics import RLMetrics, SFTMetrics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tagpr.judges.marking import Judges

LAST_STAGE: dict[str, StageName] = {"labels": "labels", "sft": "sft", "guided": "guided", "final": "exploratory"}
"""The stage that ends with each trained system's checkpoint."""
Show = Callable[[str], AbstractContextManager[Progress]]
"""Shows the progress of a named piece of work while its context is open (`tagpr.cli.progress.terminal` is one)."""


def cost_of(manifests: Iterable[Manifest]) -> Cost:
    """What these stages took together; the policy's parameters count once."""
    cost, policy = Cost(), 0
    for manifest in manifests:
        cost.seconds += manifest.measured.seconds
        cost.cpu_seconds += manifest.measured.cpu_seconds
        metrics = manifest.metrics
        if isinstance(metrics, SFTMetrics | RLMetrics):
            cost.trained_tokens += metrics.trained_tokens
            cost.completion_tokens += metrics.completion_tokens
            policy = max(policy, metrics.trained_parameters)
        elif isinstance(metrics, PRMUMetrics):
            cost.trained_tokens += metrics.trained_tokens
            cost.trained_parameters += metrics.trained_parameters
    cost.trained_parameters += policy
    return cost


@contextmanager
def show_nothing(name: str) -> Iterator[Progress]:
    """Progress of work that is not shown."""
    yield silent


class Run:
    """A recipe with its run folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        source: str = "RECIPE",
        overrides: Sequence[str] = (),
        show: Show = show_nothing,
    ) -> None:
        """source, overrides: what the recipe was read from, for messages and for variants of the run."""
        self.recipe, self.source, self.overrides = recipe, source, tuple(overrides)
        self.folder, self.show = RunFolder(folder), show
        self._prompts: dict[tuple[str, ...], PromptBuilder] = {}

    @classmethod
    def open(
        cls, recipe: str | Path, overrides: Sequence[str] = (), runs: Path = Path("runs"), show: Show = show_nothing
    ) -> "Run":
        """The run of a recipe (file, or name of a bundled one) with `key=value` overrides; its folder is `runs/NAME`.

        Nothing is made. Raises RecipeError for a mistake in the recipe.
        """
        loaded = load_recipe(str(recipe), overrides)
        return cls(loaded, runs / loaded.name, str(recipe), overrides, show)

    def changed(self, name: str, overrides: Sequence[str]) -> "Run":
        """The run of the same recipe under another name, with further overrides."""
        changes = [*self.overrides, *overrides, f"name={name}"]
        return Run.open(self.source, changes, self.folder.path.parent, self.show)

    @property
    def name(self) -> str:
        """The recipe's name."""
        return self.recipe.name

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed

    @property
    def base(self) -> Path:
        """Where the recipe's relative paths start."""
        return recipe_folder(self.source)

    def manifest(self, stage: StageName) -> Manifest | None:
        """The manifest of a stage; None if it has not been run."""
        return read_manifest(self.folder.stage(stage))

    def require(self, *stages: StageName) -> None:
        """Raise RunError if one of these stages has not been run."""
        for stage in stages:
            if self.manifest(stage) is None:
                raise RunError(
                    f"{self.folder.path}: stage '{stage}' has not been run; run `tagpr {stage} {self.source}` first"
                )

    @cached_property
    def model(self) -> Path:
        """The untrained policy as a local folder."""
        from tagpr.engine.models import resolve_model

        return resolve_model(self.recipe.model)

    def checkpoints(self, systems: Sequence[str]) -> dict[str, Path]:
        """Checkpoint folders of the evaluate stage's systems. Raises RecipeError for an unknown one, RunError if one is
        not trained.
        """
        unknown = sorted(set(systems) - {"base", *LAST_STAGE})
        if unknown:
            raise RecipeError(f"unknown system '{unknown[0]}'; known: base, {', '.join(LAST_STAGE)}")
        trained: list[StageName] = [LAST_STAGE[name] for name in systems if name in LAST_STAGE]
        self.require("data", *trained)
        return {name: self.folder.model(LAST_STAGE[name]) if name in LAST_STAGE else self.model for name in systems}

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The backbone's tokenizer."""
        from tagpr.engine.models import load_tokenizer

        return load_tokenizer(self.model)

    @cached_property
    def judges(self) -> "Judges | None":
        """Who marks answers by a rubric; None if the recipe names nobody. Raises RecipeError if a task needs judges."""
        from tagpr.evaluation.judged import need_judges
        from tagpr.judges.marking import Judges

        need_judges({name: splits.task for name, splits in self.data.items()}, self.recipe.judge)
        return None if self.recipe.judge is None else Judges.load(self.recipe.judge, self.base)

    @property
    def named_vocabulary(self) -> Vocabulary:
        """The tags that the recipe names; the paper's if it has them discovered."""
        named = self.recipe.chains.vocabulary
        return load_vocabulary(named if isinstance(named, Path) else None)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tags the recipe names; if it has them discovered, those the chains stage found, once it has."""
        found, discovers = self.folder.vocabulary, self.recipe.chains.vocabulary == "discover"
        return load_vocabulary(found) if discovers and found.is_file() else self.named_vocabulary

    @cached_property
    def data(self) -> dict[str, Splits]:
        """The examples by task name, from the data stage. Raises RunError if that was not run, DataError if damaged."""
        self.require("data")
        found = {}
        for name, task in read_tasks(self.folder.tasks).items():
            train, heldout = self.folder.train(name), self.folder.heldout(name)
            found[name] = Splits(task, read_examples(train), read_examples(heldout))
        return found

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that are trained on; those of `zero_shot` sources are only in `data`."""
        return {name: splits.task for name, splits in self.data.items() if splits.train}

    @property
    def train(self) -> dict[str, Sequence[Example]]:
        """Training examples of `tasks`."""
        return {name: splits.train for name, splits in self.data.items() if splits.train}

    def context(self) -> Context:
        """What systems are given of this run; `folder`, `progress` and checkpoints are filled in per system."""
        recipe, e = self.recipe, self.recipe.evaluate
        return Context(
            model=self.model,
            tasks={name: splits.task for name, splits in self.data.items()},
            folder=Path(),
            vocabulary=self.vocabulary,
            profile=recipe.profile,
            prompt=recipe.prompt,
            decoding=Decoding(e.max_new_tokens, e.answer_tokens, e.temperature, e.generation_batch_size, e.engine),
            sft=recipe.sft,
            seed=recipe.seed,
        )

    @property
    def prompts(self) -> PromptBuilder:
        """Builds prompts with this recipe's settings and the tags of `vocabulary`."""
        return self.prompts_of(self.vocabulary)

    def prompts_of(self, vocabulary: Vocabulary) -> PromptBuilder:
        """Builds prompts with this recipe's settings and these tags."""
        tags, recipe = vocabulary.names, self.recipe
        if tags not in self._prompts:
            builder = PromptBuilder(self.tokenizer, recipe.profile, recipe.prompt, tags, recipe.seed)
            for splits in self.data.values() if recipe.profile.retriever == "memory" else ():
                builder.prepare(splits.task, [*splits.train, *splits.heldout])
            self._prompts[tags] = builder
        return self._prompts[tags]
