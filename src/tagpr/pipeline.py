"""The stages of a recipe, and `run_recipe`, which makes those that are missing.

    data -> chains -> sft -> prmu -> guided -> exploratory -> evaluate -> report

Each function here reads the folders of earlier stages and calls one function of a room; what the stage does is there.
Run folders, skipping and resuming are `tagpr.runs.stage`'.
"""

import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tagpr.chains.evidence import Shown
from tagpr.data.split import Splits
from tagpr.files import link_tree, read_json, write_json
from tagpr.memory import give_back_memory, keep_freed_memory
from tagpr.progress import Progress
from tagpr.recipe import Recipe, find_recipe, load_recipe
from tagpr.runs.progress import clock, stage_progress
from tagpr.runs.stage import Stage, locked, read_manifest, run_stage
from tagpr.tasks.cards import read_task
from tagpr.tasks.types import Example, Task

logger = logging.getLogger(__name__)


class Workspace:
    """A recipe with its run folder; what several stages need is loaded once, when first asked for."""

    def __init__(self, recipe: Recipe, folder: Path, recipe_folder: Path) -> None:
        self.recipe, self.folder, self.recipe_folder = recipe, folder, recipe_folder

    @cached_property
    def model(self) -> Path:
        """The untrained policy as a local folder."""
        from tagpr.engine.models import resolve_model

        return resolve_model(self._local(self.recipe.model))

    @cached_property
    def prmu_backbone(self) -> Path | None:
        """The reward model's backbone as a local folder; None where it is the SFT policy."""
        from tagpr.engine.models import resolve_model

        backbone = self.recipe.prmu.backbone
        return None if backbone is None else resolve_model(self._local(backbone))

    def _local(self, spec: str) -> str:
        """A model spec; a relative folder is one beside the recipe."""
        beside = self.recipe_folder / spec
        return str(beside) if not Path(spec).is_absolute() and beside.is_dir() else spec

    @cached_property
    def tokenizer(self) -> Any:
        from tagpr.engine.models import load_tokenizer

        return load_tokenizer(self.model)

    @property
    def vocabulary(self) -> Any:
        """The tags the chains stage settled on; until then, and without that stage, those the recipe names."""
        from tagpr.chains.vocabulary import load_vocabulary

        written = self.folder / "chains" / "vocabulary.yaml"
        named = self.recipe.chains.vocabulary
        return load_vocabulary(written if written.is_file() else named if isinstance(named, Path) else None)

    @cached_property
    def data(self) -> dict[str, Splits]:
        """The examples by task name, from the data stage."""
        from tagpr.data import read_examples

        found = {}
        for card in read_json(self.folder / "data" / "tasks.json"):
            task = read_task(card)
            folder = self.folder / "data" / task.name
            found[task.name] = Splits(
                task, read_examples(folder / "train.jsonl"), read_examples(folder / "heldout.jsonl")
            )
        return found

    @cached_property
    def prompts(self) -> Any:
        """Builds prompts with this recipe's settings (a PromptBuilder)."""
        from tagpr.prompts.prompt_builder import PromptBuilder

        tags = self.vocabulary.names
        return PromptBuilder(self.tokenizer, self.recipe.profile, self.recipe.prompt, tags, self.recipe.seed)

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that are trained on; those of `zero_shot` sources are only in `data`."""
        return {name: splits.task for name, splits in self.data.items() if splits.train}

    @property
    def train(self) -> dict[str, list[Example]]:
        """Training examples of `tasks`."""
        return {name: splits.train for name, splits in self.data.items() if splits.train}

    def stages(self) -> list[Stage]:
        """All stages in order, each with the part of the recipe it depends on."""
        recipe, values = self.recipe, self.recipe.model_dump(mode="json")

        def part(*keys: str) -> dict[str, Any]:
            return {key: values[key] for key in keys}

        if recipe.sft.checkpoint is None:
            first = [
                Stage("chains", ("data",), part("model", "profile", "prompt", "chains"), self._chains),
                Stage("sft", ("data", "chains"), part("model", "profile", "prompt", "sft"), self._sft),
            ]
        else:
            first = [Stage("sft", ("data",), self._made_elsewhere(), self._take_checkpoint)]
        return [
            Stage("data", (), part("data"), self._data),
            *first,
            Stage("prmu", ("data", "sft"), part("model", "profile", "prompt", "prmu"), self._prmu),
            Stage(
                "guided",
                ("data", "sft", "prmu") if recipe.rewards.gamma else ("data", "sft"),
                part("profile", "prompt", "rewards", "guided"),
                self._guided,
            ),
            Stage(
                "exploratory",
                ("data", "guided"),
                part("profile", "prompt", "rewards", "exploratory"),
                self.exploratory,
            ),
            Stage(
                "evaluate",
                ("data", "sft", "guided", "exploratory"),
                part("model", "profile", "prompt", "evaluate"),
                self._evaluate,
            ),
            Stage(
                "report",
                ("data", *(stage.name for stage in first), "prmu", "guided", "exploratory", "evaluate"),
                part("name"),
                self._report,
            ),
        ]

    def _data(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.data import load_splits, write_examples
        from tagpr.data.rejects import write_rejects

        splits = load_splits(self.recipe.data, self.recipe.seed, self.recipe_folder)
        for name, split in splits.items():
            write_examples(out / name / "train.jsonl", split.train)
            write_examples(out / name / "heldout.jsonl", split.heldout)
            if split.rejects:
                write_rejects(out / name / "rejects.jsonl", split.rejects)
                where = self.folder / "data" / name / "rejects.jsonl"
                logger.warning("data: %s: %d left out, with reasons in %s", name, len(split.rejects), where)
        write_json(out / "tasks.json", [split.task.model_dump(mode="json") for split in splits.values()])
        figures = {name: split.report for name, split in splits.items()}
        write_json(out / "report.json", figures)
        return figures

    def _chains(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.chains.build import build_chains

        recipe = self.recipe
        funnel = build_chains(recipe.chains, self.tasks, self.train, self.prompts.build, out, recipe.seed, progress)
        self.__dict__.pop("prompts", None)  # the stage may have found other tags than these prompts name
        return {step.step: step.total for step in funnel.steps}

    def _sft(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.training.sft import train_sft

        return train_sft(self.model, self.chain_groups(), self.recipe.sft, out, self.recipe.seed, progress)

    def _made_elsewhere(self) -> dict[str, Any]:
        """What decides the `sft` stage where it is a checkpoint of another run: its name and that stage's hash."""
        spec = str(self.recipe.sft.checkpoint)
        manifest = read_manifest(Path(self._local(spec)).parent)
        return {"checkpoint": spec, "hash": manifest["hash"] if manifest else None}

    def _take_checkpoint(self, out: Path, progress: Progress) -> dict[str, Any]:
        """The `sft` stage of RL-only transfer: another run's checkpoint, linked."""
        from tagpr.engine.models import resolve_model

        shutil.rmtree(out / "model", ignore_errors=True)
        link_tree(resolve_model(self._local(str(self.recipe.sft.checkpoint))), out / "model")
        return {"checkpoint": str(self.recipe.sft.checkpoint)}

    def chain_groups(self) -> list[Any]:
        """The kept chains in token ids, those of one example together."""
        import pyarrow.parquet as parquet

        from tagpr.training.sft import ChainGroup

        examples = {(name, example.id): example for name, train in self.train.items() for example in train}
        chains: dict[tuple[str, str], list[list[int]]] = {}
        for row in parquet.read_table(self.folder / "chains" / "chains.parquet").to_pylist():
            ids = self.tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
            chains.setdefault((row["task"], row["example_id"]), []).append([*ids, self.tokenizer.eos_token_id])
        return [
            ChainGroup(self.prompts.ids(self.tasks[key[0]], examples[key]), completions)
            for key, completions in chains.items()
        ]

    def _prmu(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.prmu.stage import make_prmu

        return make_prmu(
            self.folder / "sft" / "model",
            self.prmu_backbone or self.model,
            self.tasks,
            self.train,
            self.prompts,
            self.vocabulary,
            self.recipe.prmu,
            out,
            self.recipe.seed,
            progress,
        )

    def _guided(self, out: Path, progress: Progress) -> dict[str, Any]:
        return self.rl("guided", self.folder / "sft" / "model", self.prmu_score(), out, progress)

    def prmu_score(self) -> Any:
        """The trained reward model's scorer; None where its weight is 0."""
        if not self.recipe.rewards.gamma:
            return None
        from tagpr.prmu.stage import scorer

        return scorer(self.folder / "prmu" / "model", self.tasks, self.train, self.prompts)

    def exploratory(self, out: Path, progress: Progress) -> dict[str, Any]:
        return self.rl("exploratory", self.folder / "guided" / "model", None, out, progress)

    def rl(self, stage: str, start: Path, prmu: Any, out: Path, progress: Progress) -> dict[str, Any]:
        """One RL stage from the checkpoint `start`; `prmu` scores responses in guided RL (None: no such reward)."""
        from tagpr.rewards.composite import CompositeReward
        from tagpr.training.gspo import train_gspo
        from tagpr.training.rollout import keep_out

        recipe = self.recipe
        shown = self.shown() if recipe.rewards.delta_evidence else None
        reward = CompositeReward(self.tasks, self.vocabulary, recipe.rewards, prmu, stage=stage, shown=shown)
        rows = [
            {
                "prompt_ids": self.prompts.ids(splits.task, example),
                "example_id": example.id,
                "task": name,
                "user_id": example.user_id,
                "target": example.target,
            }
            for name, splits in self.data.items()
            for example in splits.train
        ]
        settings = recipe.guided if stage == "guided" else recipe.exploratory
        rows, watched = keep_out(rows, settings.heldout_prompts, recipe.seed)
        sft = self.folder / "sft" / "model"
        return train_gspo(
            *(start, rows, reward, settings, out, recipe.seed, progress, watched),
            reference=sft if sft.is_dir() else None,
            trackers=self.folder / "trackers",
        )

    def shown(self) -> dict[tuple[str, str], Shown]:
        """What the prompt of every training example shows, by task and example id."""
        return {
            (name, example.id): Shown.of(splits.task, example, self.prompts.build(splits.task, example).entries)
            for name, splits in self.data.items()
            for example in splits.train
        }

    def _evaluate(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.evaluation.evaluate import evaluate_systems

        folders = {
            "base": self.model,
            "sft": self.folder / "sft" / "model",
            "guided": self.folder / "guided" / "model",
            "final": self.folder / "exploratory" / "model",
        }
        recipe = self.recipe
        results = evaluate_systems(
            {name: folders[name] for name in recipe.evaluate.systems},
            self.data,
            self.vocabulary,
            recipe.profile,
            recipe.prompt,
            recipe.evaluate,
            out,
            recipe.seed,
            progress,
        )
        return {
            name: {system: dict(scores.points) for system, scores in task.systems.items()}
            for name, task in results.tasks.items()
        }

    def _report(self, out: Path, progress: Progress) -> dict[str, Any]:
        from tagpr.report import write_report

        write_report(self.folder, out)
        return {}


def run_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    runs: Path = Path("runs"),
    only: str | None = None,
    quiet: bool = False,
    as_json: bool = False,
) -> dict[str, Any]:
    """Make every stage that is missing or out of date (or `only` one), print the results, return the manifests.

    Raises RecipeError, DataError, ModelError or RunError for what a user can mend; a killed run continues when called
    again.
    """
    recipe = load_recipe(name_or_path, overrides)
    folder = runs / recipe.name
    workspace = Workspace(recipe, folder, find_recipe(name_or_path).parent)
    manifests: dict[str, Any] = {}
    began = time.monotonic()
    keep_freed_memory()
    try:
        with locked(folder):
            for stage in workspace.stages():
                if only not in (None, stage.name):
                    continue
                with stage_progress(stage.name, quiet) as progress:
                    manifest, made = run_stage(folder, stage, recipe.seed, progress)
                manifests[stage.name] = manifest
                give_back_memory()
                if not quiet:
                    state = clock(manifest["measured"]["seconds"]) if made else "done before"
                    sys.stderr.write(f"{stage.name:<12} {state}\n")
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command continues from here\n")
        raise SystemExit(130) from None
    summary = {"run": str(folder), "seconds": round(time.monotonic() - began, 1), "stages": manifests}
    if as_json:
        sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")
    elif only in (None, "evaluate") and not quiet:
        from tagpr.evaluation.results import Results
        from tagpr.report.tables.terminal import print_results

        print_results(Results.read(folder / "evaluate" / "results.json"))
    if only in (None, "report") and not as_json:
        sys.stdout.write(f"report: {folder / 'report' / 'index.html'}\n")
    return summary
