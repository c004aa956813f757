"""`rl:` of a recipe: which engine the two RL stages run on. Light: importing this loads no torch."""

from typing import Literal

from pydantic import Field, model_validator

from tagpr.settings import Settings
from tagpr.training.verl.settings import VerlSettings


class VLLMSettings(Settings):
    """Completions of RL from vLLM, with the weights of the step."""

    mode: Literal["colocate", "server"] = "colocate"
    """In the training processes, or a server that `trl vllm-serve` or `vllm serve` runs on GPUs of its own."""
    server: str = "http://localhost:8000"
    """Address of the server."""
    group_port: int = Field(default=51216, ge=1, le=65535)
    """Port by which weights go to the server."""
    memory: float = Field(default=0.3, gt=0, lt=1)
    """Share of a GPU's memory that colocated vLLM takes."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that colocated vLLM divides the model among; divides the number of processes."""
    max_length: int | None = Field(default=None, ge=16)
    """Longest prompt and completion together, in tokens; None: the model's own limit."""
    sleep: bool = True
    """Colocated vLLM gives its memory back while the policy is updated."""


class EngineSettings(Settings):
    """What the RL stages run on."""

    engine: Literal["local", "trl", "verl"] = "local"
    """local: this package's loop, for CPUs and one GPU, or data parallel with torchrun. trl: TRL's GRPOTrainer under
    accelerate, for a policy that has to be sharded or completions from vLLM. verl: verl's trainer under Ray, with
    completions from vLLM (docs/scale.md)."""
    vllm: VLLMSettings | None = None
    """Completions from vLLM; None: with engine trl from the policy itself, with engine verl these defaults."""
    verl: VerlSettings | None = None
    """The machines and the environment of verl's trainer; None: these defaults. With engine verl."""

    @model_validator(mode="after")
    def _nothing_idle(self) -> "EngineSettings":
        if self.vllm is not None and self.engine == "local":
            raise ValueError("vllm does nothing with engine=local; set rl.engine to trl")
        if self.verl is not None and self.engine != "verl":
            raise ValueError(f"verl does nothing with engine={self.engine}; set rl.engine to verl")
        return self
