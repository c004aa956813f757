"""The reward of an RL stage as verl's reward manager: one completion per call, many scored at once.

verl loads it by `reward.reward_manager`; `reward.tagpr` says of which run it is (`tagpr.training.verl.config`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl.experimental.reward_loop.reward_manager.base import (  # pyright: ignore[reportMissingImports]  # verl's
    RewardManagerBase,
)

from tagpr.errors import RunError
from tagpr.pipeline.rl import prmu_of, settings_of, stage_reward, start_of
from tagpr.pipeline.verl_scoring import Sample, Scorer
from tagpr.runs import Run
from tagpr.training.verl.batching import Batched

if TYPE_CHECKING:
    from tagpr.rewards.composite import PersonalScore

Ids = Sequence[int]


def sample_of(data: Any) -> Sample:
    """The last row of a `DataProto`: the completion of an agent loop."""
    row = data[len(data) - 1]
    about, info = row.non_tensor_batch, row.non_tensor_batch["extra_info"]
    prompts, responses = row.batch["prompts"], row.batch["responses"]
    mask = row.batch["attention_mask"].bool()
    return Sample(
        task=info["task"],
        user_id=info["user_id"],
        example_id=info["example_id"],
        target=about["reward_model"]["ground_truth"],
        prompt_ids=prompts[mask[: len(prompts)]].tolist(),
        completion_ids=responses[mask[len(prompts) :]].tolist(),
        step=int(about["global_steps"]),
        heldout=info["split"] == "heldout",
        row=int(info["index"]),
        prompt=str(about["uid"]),
        session=int(about["session_id"]),
    )


class PersonalRewardManager(RewardManagerBase):
    """The composite reward, R_PRMU included, of the run that `reward.tagpr` names."""

    def __init__(self, config: Any, tokenizer: Any, compute_score: object = None, **_: object) -> None:
        super().__init__(config, tokenizer, compute_score)
        given = config.reward.tagpr
        run = Run.open(given.recipe, list(given.changes), Path(given.runs))
        scores = given.stage == "guided" and run.recipe.rewards.gamma > 0
        personal = remote_prmu(given) if given.gpus and scores else prmu_of(run, given.stage)
        reward = stage_reward(run, given.stage, personal)
        policy, settings = start_of(run, given.stage), settings_of(run, given.stage)
        self.score = Batched(Scorer(reward, policy, settings, Path(given.log)).score)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one completion, by verl's protocol."""
        parts = await self.score(sample_of(data))
        others = {name: value for name, value in parts.items() if name != "reward"}  # verl's own column
        return {"reward_score": parts["reward"], "reward_extra_info": others}


NAME = "tagpr-prmu"
"""Ray's name of the actor, by which every reward manager finds the same one."""


class PRMUActor:
    """R_PRMU in a process of its own, on a GPU of its own."""

    def __init__(self, recipe: str, changes: Sequence[str], runs: str) -> None:
        found = prmu_of(Run.open(recipe, changes, Path(runs)), "guided")
        assert found is not None  # asked for by a stage that has it
        self.prmu = found

    def score(self, users: Sequence[str], prompts: Sequence[Ids], completions: Sequence[Ids]) -> list[float]:
        """As `PersonalScore`."""
        return list(self.prmu(users, prompts, completions))


def remote_prmu(given: Any) -> "PersonalScore":
    """R_PRMU of a Ray actor that all reward managers share."""
    import ray  # pyright: ignore[reportMissingImports]  # verl's environment

    free = ray.available_resources().get("GPU", 0.0)
    if free < given.gpus and NAME not in ray.util.list_named_actors():  # Ray would wait for ever
        raise RunError(
            f"rl.verl.reward_gpus={given.gpus}: beside the policy the Ray cluster has {free:g} GPUs; set it to 0"
        )
    place = {"name": NAME, "get_if_exists": True, "num_gpus": given.gpus}
    actor = ray.remote(PRMUActor).options(**place).remote(given.recipe, list(given.changes), given.runs)

    def score(users: Sequence[str], prompts: Sequence[Ids], completions: Sequence[Ids]) -> list[float]:
        return ray.get(actor.score.remote(users, prompts, completions))

    return score
