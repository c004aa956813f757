"""`build_microworld(folder, seed)`: everything a run needs in one folder, as ordinary files any recipe can read.

folder/data/{train,dev}_{questions,outputs}.json   LaMP's format, with user_id
folder/microworld.yaml, folder/templates/          the task card and the short prompt
folder/rollouts.jsonl                              the teacher's chains, unfiltered (`chains.written`)
folder/base/                                       the pretrained model, an ordinary Hugging Face folder
folder/recipe.yaml                                 the whole method: `tagpr run folder/recipe.yaml`
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

from microworld import base, teacher
from microworld.world import Question, Sizes, make_questions, write_lamp
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.files import write_jsonl, write_text
from tagpr.tasks import load_task
from tagpr.tasks.templates import render

Progress = Callable[[int, int, str], None]
HERE = Path(__file__).parent
TASK = "microworld"
BASE_SEED = 0
"""All seeds of the table start from one base model, as the paper's runs all start from Qwen3-8B."""


@dataclass(frozen=True)
class Scale:
    """All sizes of a run."""

    world: Sizes = field(default_factory=Sizes)
    model: base.BaseSizes = field(default_factory=base.BaseSizes)
    chain_examples: int = 320
    """Training questions that SFT has chains of; RL uses all."""
    samples: int = 8
    """Chains the teacher writes for one of them."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """Settings laid over RECIPE's, block by block."""


RL = {
    "learning_rate": 3.0e-4,
    "prompts_per_step": 16,
    "group_size": 8,
    "minibatches": 2,
    "epsilon_low": 0.02,
    "epsilon_high": 0.03,
    "max_new_tokens": 40,
    "tokens_per_forward": 8192,
    "generation_batch_size": 128,
    "save_steps": 16,
}
RECIPE: dict[str, dict[str, Any]] = {
    "profile": {"retriever": "recency", "k": 8},
    "prompt": {"max_prompt_tokens": 128},
    "chains": {"teacher": "written", "keep_per_example": 2},
    "sft": {"learning_rate": 2.0e-3, "epochs": 6, "batch_size": 16, "tokens_per_forward": 8192, "save_steps": 1000},
    "prmu": {
        "prompts": 128,
        "rollouts_with": 4,
        "rollouts_without": 2,
        "max_new_tokens": 40,
        "max_pairs_per_prompt": 4,
        "epochs": 2,
        "learning_rate": 3.0e-4,
        "batch_size": 16,
        "micro_batch_size": 16,
        "save_steps": 1000,
    },
    "guided": {"steps": 64, **RL},
    "exploratory": {"steps": 24, **RL},
    "evaluate": {"max_new_tokens": 40, "generation_batch_size": 256, "chunk": 512, "resamples": 1000},
}


def build_microworld(
    folder: Path, seed: int, scale: Scale | None = None, model: Path | None = None, progress: Progress | None = None
) -> Path:
    """Make what is missing in `folder` and return its recipe. `model`: a base made before, instead of `folder/base`."""
    scale = scale or Scale()
    model = model or build_base(folder / "base", scale, progress)
    recipe = folder / "recipe.yaml"
    if not recipe.is_file():
        train, heldout = make_questions(seed, scale.world)
        write_lamp(folder / "data", "train", train)
        write_lamp(folder / "data", "dev", heldout)
        shutil.copytree(HERE / "templates", folder / "templates", dirs_exist_ok=True)
        shutil.copy(HERE / "microworld.yaml", folder / "microworld.yaml")
        write_jsonl(folder / "rollouts.jsonl", _rollouts(train, scale, seed))
        write_text(recipe, yaml.safe_dump(_recipe(seed, scale, model, folder), sort_keys=False))
    return recipe


def build_base(folder: Path, scale: Scale, progress: Progress | None = None) -> Path:
    """The pretrained model in `folder`, unless it is there; appears whole or not at all."""
    if not (folder / "config.json").is_file():
        task, tags = load_task(HERE / "microworld.yaml"), load_vocabulary().names
        source = (HERE / "templates" / "system.jinja").read_text(encoding="utf-8")
        systems = tuple(render(source, {"task": task, "tags": names}).strip() for names in (list(tags), []))
        train, _ = make_questions(BASE_SEED, Sizes(people=8, per_person=8, seen=1, unseen_people=1, unseen=1))
        chains = [row["completion"] for row in _rollouts(train, scale, BASE_SEED)]
        tokenizer = base.make_tokenizer([*base.all_words(), *chains, *systems], tags)
        work = folder.with_name(f".{folder.name}.{os.getpid()}")
        base.pretrain(work, tokenizer, systems, scale.world.shown, scale.model, BASE_SEED, progress)
        os.replace(work, folder)
    return folder


def _rollouts(questions: list[Question], scale: Scale, seed: int) -> list[dict[str, str]]:
    """The teacher's chains for every training question, from what the prompt shows: the latest orders."""
    random = Random(f"teacher-{seed}")
    rows = []
    for question in questions:
        for _ in range(scale.samples):
            text = teacher.write_chain(random, question.past[-scale.world.shown :], question.dish)
            rows.append({"task": TASK, "example_id": question.id, "completion": text})
    return rows


def _recipe(seed: int, scale: Scale, model: Path, folder: Path) -> dict[str, Any]:
    source = {"task": "microworld.yaml", "format": "lamp"}
    source |= {"path": "data/train_questions.json", "heldout_path": "data/dev_questions.json"}
    recipe: dict[str, Any] = {
        "name": f"{TASK}-{seed}",
        "model": os.path.relpath(model, folder),
        "seed": seed,
        "data": {"sources": [source]},
    }
    for block, values in RECIPE.items():
        recipe[block] = values | scale.recipe.get(block, {})
    recipe["prompt"] |= {"templates": "templates"}
    recipe["chains"] |= {"written": "rollouts.jsonl"}
    recipe["chains"] |= {"examples_per_task": scale.chain_examples, "samples": scale.samples}
    recipe["profile"] |= {"k": scale.world.shown}
    return recipe
