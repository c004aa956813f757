"""One cell of the sceptic's table: SFT on labels, chains or both of the same users, then RL on the same labels.

Everything that could favour one side is equal: the users and their questions, the users held out to choose the stopping
by, how often and on what they are evaluated, the optimizer steps and their rate, RL's steps and completions, the test
questions. No pipeline: `train_sft`, `train_gspo` and greedy answers, on one thread.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from microworld import base
from microworld.build import BASE_SEED
from microworld.cell import FEW, Cell, Settings
from microworld.cell_data import VOCABULARY, CellData, system_turn
from microworld.worlds import FIRST_FORMS, SHOWN, WORLDS
from tagpr.files import read_jsonl
from tagpr.progress import StageContext
from tagpr.training.gspo import train_gspo
from tagpr.training.job import RLJob
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.training.sft import train_sft


def build_base(folder: Path, sizes: base.BaseSizes, progress: Callable[[int, int, str], None] | None = None) -> Path:
    """The one base of all cells, pretrained on the plain text of the counting world's people (`plain`), if missing.

    None of that text holds a tagged chain, a mood, or a question of another world. Appears whole or not at all.
    """
    if not (folder / "config.json").is_file():
        random = Random(BASE_SEED)
        worlds = (*WORLDS.values(), *FIRST_FORMS.values())
        asked = [(world, q) for world in worlds for q in world.questions(random, "", 200)]
        chains = [world.chain(random, question)[0] for world, question in asked]
        systems = (system_turn(True), system_turn(False))
        tokenizer = base.make_tokenizer([*base.all_words(), *chains, *systems], VOCABULARY.names)
        work = folder.with_name(f".{folder.name}.{os.getpid()}")
        base.pretrain(work, tokenizer, systems, SHOWN, sizes, BASE_SEED, progress)
        os.replace(work, folder)
    return folder


def run_sft(cell: Cell, model: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """SFT from the base `model`: accuracy on the test questions and where it stopped. The policy is left in `out`.

    What an earlier process left beside `out` is continued.
    """
    began = time.process_time()
    data, work = CellData(cell, model, settings), out.with_name(f"{out.name}-work")
    context = StageContext(work, seed=cell.seed)
    sizes, steps = _sft_settings(cell, settings, data.users_out), _steps(cell, settings)
    sft = train_sft(model, data.rows(), sizes, context, metric=data.heldout_metric(), steps=steps)
    shutil.rmtree(out, ignore_errors=True)
    os.replace(work / "model", out)
    shutil.rmtree(work)
    return {
        "without_rl": data.test(out),
        "sft_kept_step": sft.kept_step,
        "trained_users": len({q.user_id for q in data.train}),
        "heldout_users": len({q.user_id for q in data.heldout}),
        "questions_with_chains": data.with_chains,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def run_rl(cell: Cell, policy: Path, settings: Settings, rl: GSPOSettings | None = None) -> dict[str, Any]:
    """RL from what `run_sft` left in `policy`, on the same labels: accuracy on the test questions, where it stopped.

    rl: other settings than the table's. Works beside `policy`, in a folder of the process.
    """
    began = time.process_time()
    data, work = CellData(cell, policy, settings), policy.with_name(f"{policy.name}-work-{os.getpid()}")
    job = RLJob(
        policy,
        [data.asked(q) for q in data.train],
        data.reward(),
        rl or rl_settings(settings, cell.start == FEW),
        StageContext(work, seed=cell.seed),
        heldout=[data.asked(q) for q in data.heldout],
    )
    kept = train_gspo(job).kept_step
    first = read_jsonl(work / "log.jsonl")[0]
    found = {
        "with_rl": data.test(work / "model"),
        "rl_kept_step": kept,
        # what the first rollout found: how often sampled answers were right, and how many groups had anything to tell
        "rl_start": {name: round(first[key], 4) for name, key in _FIRST.items()},
        "rl_cpu_seconds": round(time.process_time() - began, 1),
    }
    shutil.rmtree(work)
    return found


_FIRST = {"right": "reward/verifiable", "groups": "verifiable_groups"}


def _steps(cell: Cell, settings: Settings) -> int:
    return settings.sft_steps * settings.slow.get(cell.world, 1) * (settings.long if cell.start == "label-long" else 1)


def _sft_settings(cell: Cell, settings: Settings, users_out: int) -> SFTSettings:
    every = _steps(cell, settings) // settings.sft_evaluations
    sizes = SFTSettings(
        learning_rate=settings.sft_rate,
        batch_size=settings.sft_batch,
        tokens_per_forward=8192,
        save_steps=every,
    )
    if cell.start == FEW:
        return sizes
    return sizes.model_copy(update={"heldout_users": users_out, "heldout_every": every, "keep": "best"})


def rl_settings(settings: Settings, few: bool) -> GSPOSettings:
    """The table's RL, or that of `few`, which samples cooler and for more steps."""
    steps = settings.few_rl_steps if few else settings.rl_steps
    return GSPOSettings(
        learning_rate=settings.rl_rate,
        decay="linear",
        steps=steps,
        prompts_per_step=settings.rl_prompts,
        group_size=settings.rl_group,
        groups="verifiable",
        oversample=settings.rl_oversample,
        minibatches=1,
        warmup_steps=2,
        temperature=settings.few_rl_temperature if few else settings.rl_temperature,
        scale_rewards="batch",
        max_new_tokens=settings.max_new_tokens,
        tokens_per_forward=8192,
        generation_batch_size=settings.decode,
        samples_per_step=0,
        save_steps=steps,
        heldout_every=steps // settings.rl_evaluations,
        keep="best",
    )
