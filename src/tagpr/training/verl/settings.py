"""`rl.verl` of a recipe: the machines and the environment of verl's trainer. Light: importing this loads no torch."""

from pydantic import Field

from tagpr.settings import Settings


class VerlSettings(Settings):
    """What verl's trainer runs on; how it generates is `rl.vllm`."""

    gpus_per_node: int = Field(default=8, ge=1)
    """GPUs of each machine that hold the policy and vLLM."""
    nodes: int = Field(default=1, ge=1)
    """Machines of the Ray cluster."""
    reward_gpus: float = Field(default=0.0, ge=0)
    """GPUs, beyond those of the policy, for the process that scores R_PRMU; 0: on the CPUs."""
    python: str | None = None
    """The Python of the environment that has verl, if it is another than this one (TRL's cannot have it)."""
    overrides: tuple[str, ...] = ()
    """Further settings in verl's own words, e.g. `actor_rollout_ref.actor.fsdp_config.param_offload=true`."""
