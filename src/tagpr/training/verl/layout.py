"""The folder that a stage is exported to, and that verl writes into. The names of its files are said here, once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VerlFolder:
    """One RL stage on verl."""

    path: Path

    @property
    def config(self) -> Path:
        """verl's configuration."""
        return self.path / "config.yaml"

    @property
    def train(self) -> Path:
        """Every training row once."""
        return self.path / "train.parquet"

    @property
    def heldout(self) -> Path:
        """Training's own held-out rows."""
        return self.path / "heldout.parquet"

    @property
    def checkpoints(self) -> Path:
        """verl's `global_step_N`."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """Of each launch a folder of its own, named by the time: a continued stage writes beside what was there."""
        return self.path / "log"

    def launch(self, name: str = "launch") -> Path:
        """The log of one launch."""
        return self.log / name

    @property
    def console(self) -> Path:
        """What verl prints under `tagpr run`."""
        return self.path / "console.txt"


METRICS = "metrics.jsonl"
"""In the folder of a launch: verl's metrics, one line per step."""
SCORED = "scored.jsonl"
"""In the folder of a launch: every completion with its reward, `tagpr.training.verl.scored`."""
