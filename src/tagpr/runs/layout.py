"""Where everything of a run is on disk. The names of its folders and files are said here, once.

runs/NAME/STAGE/             a complete stage: its files and manifest.json
runs/NAME/.work/STAGE-HASH/  a stage in progress; a rerun with the same settings and inputs continues it
runs/NAME/.lock              held while a process works on the run
"""

from dataclasses import dataclass
from pathlib import Path

from tagpr.stages import StageName


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name: that of its folder."""
        return self.path.name

    def stage(self, name: StageName) -> Path:
        """The folder of a stage."""
        return self.path / name

    def model(self, stage: StageName) -> Path:
        """The checkpoint that a training stage ends with."""
        return self.path / stage / "model"

    @property
    def tasks(self) -> Path:
        """The cards of the run's tasks."""
        return self.stage("data") / "tasks.json"

    def train(self, task: str) -> Path:
        """A task's training examples."""
        return self.stage("data") / task / "train.jsonl"

    def heldout(self, task: str) -> Path:
        """A task's held-out examples."""
        return self.stage("data") / task / "heldout.jsonl"

    @property
    def chains(self) -> Path:
        """The kept chains of stage 0."""
        return self.stage("chains") / "chains.parquet"

    @property
    def vocabulary(self) -> Path:
        """The tags that stage 0 settled on."""
        return self.stage("chains") / "vocabulary.yaml"

    @property
    def taught_vocabulary(self) -> Path:
        """The tags of the checkpoint that stands in the place of chains and SFT (`sft.checkpoint`)."""
        return self.stage("sft") / "vocabulary.yaml"

    @property
    def pairs(self) -> Path:
        """The preference pairs that the reward model was trained on."""
        return self.stage("prmu") / "pairs.parquet"

    @property
    def predictions(self) -> Path:
        """The evaluate stage's answers: SYSTEM/TASK.jsonl."""
        return self.stage("evaluate") / "predictions"

    @property
    def results(self) -> Path:
        """What the evaluate stage's systems scored."""
        return self.stage("evaluate") / "results.json"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.stage("report") / "index.html"

    @property
    def compare(self) -> Path:
        """What `tagpr compare` writes."""
        return self.path / "compare"

    @property
    def analyses(self) -> Path:
        """What `tagpr analyse` and `tagpr sweep` write."""
        return self.path / "analyses"

    @property
    def ablations(self) -> Path:
        """What `tagpr ablate` writes."""
        return self.path / "ablations"

    @property
    def human_pairs(self) -> Path:
        """The preference pairs that `tagpr update` makes of feedback."""
        return self.path / "feedback" / "pairs.jsonl"

    @property
    def corrections(self) -> Path:
        """The corrected answers that `tagpr update` makes of feedback, as examples."""
        return self.path / "feedback" / "corrections.jsonl"

    @property
    def trackers(self) -> Path:
        """TensorBoard's files and the like."""
        return self.path / "trackers"
