"""The four steps of `one_truth.py` in verl's own FSDP2 worker, with its loss, our advantages and our reward manager.

Under torchrun, in verl's environment: python one_truth_verl.py verl FOLDER OUT. Left out of verl is Ray, which hands
the batches to these workers, and its choice of minibatches: here they are those of the other engines.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.distributed.tensor import DTensor
from verl import DataProto
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.utils import tensordict_utils as tu
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.engine_workers import ActorRolloutRefWorker
from verl.workers.utils.padding import response_from_nested

import tagpr.training.verl.advantages  # noqa: F401  # registers them
from one_truth import DTYPE, SEED, SETTINGS, Fixed, job, keep
from tagpr.files import write_jsonl, write_text
from tagpr.pipeline.verl_reward import PersonalRewardManager
from tagpr.pipeline.verl_scoring import Scorer
from tagpr.training.rollout import minibatches_of_step
from tagpr.training.scale.settings import EngineSettings
from tagpr.training.verl.batching import Batched
from tagpr.training.verl.config import RewardSource, VerlJob, config_text
from tagpr.training.verl.layout import VerlFolder
from tagpr.training.verl.settings import VerlSettings
from verl_cpu import overrides


def configuration(folder: Path, out: Path, count: int) -> Any:
    """What `tagpr export verl` would write, composed by hydra over verl's defaults."""
    where = VerlFolder(out.resolve())
    engine = EngineSettings(engine="verl", verl=VerlSettings(gpus_per_node=count))
    longest = max(len(row.prompt_ids) for row in job(folder, out).rows)
    told = VerlJob("guided", folder / "policy", 4, SEED, longest, False, RewardSource("", (), out, "none:None"))
    write_text(where.config, config_text(told, SETTINGS, engine, where))
    with initialize_config_dir(str(where.path), version_base=None):
        config = compose(where.config.stem, overrides(count))
    OmegaConf.resolve(config)
    return config


def rewards_of(manager: PersonalRewardManager, columns: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Reward and parts of each completion, asked for one by one as verl does."""

    def one(column: dict[str, Any]) -> DataProto:
        info = {"index": 0, "split": "train", **{k: column[k] for k in ("user_id", "task", "example_id")}}
        about = {"extra_info": info, "reward_model": {"ground_truth": column["target"]}, "uid": column["uid"]}
        about |= {"global_steps": column["step"], "session_id": column["session"]}
        prompt, response = torch.tensor(column["prompt"]), torch.tensor(column["completion"])
        mask = torch.ones(len(prompt) + len(response), dtype=torch.long)
        tensors = {"prompts": prompt[None], "responses": response[None], "attention_mask": mask[None]}
        return DataProto.from_dict(tensors, {key: np.array([value], dtype=object) for key, value in about.items()})

    async def together() -> list[dict[str, Any]]:
        return await asyncio.gather(*(manager.run_single(one(column)) for column in columns))

    return [{"reward": found["reward_score"], **found["reward_extra_info"]} for found in asyncio.run(together())]


def nested(rows: list[list[int]], dtype: torch.dtype = torch.long) -> torch.Tensor:
    """Rows of different lengths as verl's workers take them."""
    return torch.nested.as_nested_tensor([torch.tensor(row, dtype=dtype) for row in rows], layout=torch.jagged)


def batch_of(columns: list[dict[str, Any]]) -> Any:
    """The batch that a worker is handed."""
    prompts, responses = [c["prompt"] for c in columns], [c["completion"] for c in columns]
    whole = [[*a, *b] for a, b in zip(prompts, responses, strict=True)]
    mask = nested([[1] * len(row) for row in responses])
    tensors = {
        "input_ids": nested(whole),
        "position_ids": nested([list(range(len(row))) for row in whole]),
        "prompts": nested(prompts),
        "responses": nested(responses),
        "response_mask": mask,
        "loss_mask": mask,
    }
    told = {"calculate_entropy": True, "compute_loss": False, "temperature": SETTINGS.temperature}
    return tu.get_tensordict(tensors, told)


def advantages_of(columns: list[dict[str, Any]], rewards: list[float]) -> list[float]:
    """Ours, through verl's registry: one number per completion."""
    width = max(len(column["completion"]) for column in columns)
    # fp32 as in verl's agent loop, whatever our reward manager returns
    scores = torch.zeros(len(columns), width, dtype=getattr(torch, DTYPE))
    mask = torch.zeros(len(columns), width)
    for place, (column, reward) in enumerate(zip(columns, rewards, strict=True)):
        mask[place, : len(column["completion"])] = 1
        scores[place, len(column["completion"]) - 1] = reward
    uids = np.array([column["uid"] for column in columns], dtype=object)
    found, _ = get_adv_estimator_fn("tagpr")(token_level_rewards=scores, response_mask=mask, index=uids, config=None)
    return found[:, 0].tolist()


def run(folder: Path, out: Path) -> None:
    """Four steps; gradients before each update and the log go to `out`."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if DTYPE == "float64":
        PrecisionType.to_dtype = staticmethod(lambda _: torch.float64)  # verl names none above fp32
    stage = job(folder, out)
    out.mkdir(parents=True, exist_ok=True)
    worker = ActorRolloutRefWorker(configuration(folder, out / str(rank), count).actor_rollout_ref, role="actor")
    worker.init_model()
    engine, taken = worker.actor.engine, []
    step_optimizer = engine.optimizer_step

    def noting() -> Any:
        gradients = {
            n: p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
            for n, p in engine.module.named_parameters()
        }
        keep(out, len(taken), gradients)
        taken.append(1)
        return step_optimizer()

    engine.optimizer_step = noting
    manager = PersonalRewardManager.__new__(PersonalRewardManager)  # of a run there is only the reward
    manager.score = Batched(Scorer(stage.reward, folder / "policy", SETTINGS, out / f"log-{rank}").score)
    log = []
    fixed = Fixed(folder)
    for step, drawn in enumerate(fixed.steps):
        columns = [
            {"prompt": drawn["prompt_ids"][g], "completion": ids, "uid": f"{g}", "session": i, "step": step + 1}
            | stage.rows[row].about()
            for g, row in enumerate(drawn["rows"])
            for i, ids in enumerate(one.token_ids for one in fixed.group(step, drawn["prompt_ids"][g]))
        ]
        parts = rewards_of(manager, columns)
        weights = advantages_of(columns, [part["reward"] for part in parts])
        order = [
            g * SETTINGS.group_size + i
            for part in minibatches_of_step(step, SETTINGS, SEED)
            for g in part
            for i in range(SETTINGS.group_size)
        ][rank::count]
        mine = [columns[place] for place in order]
        data = batch_of(mine)
        old = worker.actor.infer_batch(data)
        data = batch_of(mine)
        data["old_log_probs"] = response_from_nested(old["log_probs"], data["response_mask"])
        lengths = [len(column["completion"]) for column in mine]
        data["advantages"] = nested([[weights[p]] * n for p, n in zip(order, lengths, strict=True)], torch.float32)
        size = SETTINGS.prompts_per_step // SETTINGS.minibatches * SETTINGS.group_size
        told = {"global_batch_size": size, "mini_batch_size": size, "epochs": 1, "seed": SEED}
        told |= {"dataloader_kwargs": {"shuffle": False}, "calculate_entropy": False, "compute_loss": True}
        told |= {"distillation_use_topk": False, "distillation_only": False}
        tu.assign_non_tensor(data, **told)
        done = tu.get(worker.actor.train_mini_batch(data), "metrics")
        row = {
            f"reward/{name}": float(np.mean([part[name] for part in parts])) for name in parts[0] if name != "reward"
        }
        row |= {"step": step + 1, "reward": float(np.mean([part["reward"] for part in parts]))}
        row |= {"loss": float(np.mean(done["loss"])), "clip_fraction/2": float(np.mean(done["actor/pg_clipfrac"][1]))}
        log.append(row)
    if not rank:
        write_jsonl(out / "log.jsonl", log)


if __name__ == "__main__":
    run(Path(sys.argv[2]), Path(sys.argv[3]))
