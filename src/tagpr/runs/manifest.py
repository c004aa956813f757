"""`manifest.json` of a complete stage: what it was made from, what it wrote, and what that took."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from tagpr import __version__
from tagpr.errors import RunError
from tagpr.files import write_json
from tagpr.runs.metrics import METRICS, StageMetrics
from tagpr.stages import StageName

_VERSIONED = ("torch", "transformers", "trl", "accelerate", "peft", "numpy")


class Measured(BaseModel):
    """What differs from one execution to the next."""

    model_config = ConfigDict(frozen=True)

    date: str
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory_mib: int | None = None
    resumed: bool = False
    processes: int = 1


class Manifest(BaseModel):
    """The inputs of a stage and its outcome."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    stage: StageName
    hash: str
    """Of all that decides the output (`stage_hash`): same hash, nothing to do."""
    seed: int
    settings: dict[str, JsonValue]
    """The blocks of the recipe that the stage depends on."""
    reads: dict[str, str] = {}
    """Fingerprints of what the stage reads from outside the run, by name."""
    inputs: dict[str, str] = {}
    """Hashes of the stages whose output it read."""
    versions: dict[str, str]
    files: dict[str, str]
    """SHA-256 of every file that it wrote, by relative path."""
    metrics: StageMetrics = Field(validation_alias=AliasChoices("metrics", "figures"))  # figures: until 0.2
    """What the stage says of itself, e.g. steps and trained tokens."""
    measured: Measured

    @field_validator("metrics", mode="plain")
    @classmethod
    def _metrics_of_the_stage(cls, value: object, info: ValidationInfo) -> StageMetrics:
        """Read as the stage's own model, not as whichever fits."""
        return TypeAdapter(METRICS[info.data["stage"]]).validate_python(value)

    @field_serializer("metrics")
    def _metrics_as_json(self, value: StageMetrics) -> JsonValue:
        return TypeAdapter(type(value)).dump_python(value, mode="json", exclude_none=True)

    def write(self, folder: Path) -> None:
        """Write `folder/manifest.json`, atomically."""
        write_json(folder / "manifest.json", self.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a complete stage folder, or None. Raises RunError if the file is damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RunError(f"{path}: damaged manifest; delete the folder {folder} and run again") from error


def stage_hash(
    stage: str, settings: Mapping[str, JsonValue], reads: Mapping[str, str], seed: int, inputs: Sequence[str]
) -> str:
    """Hash of everything that decides a stage's output.

    That is: package version, settings, what is read from outside the run, the seed, and the hashes of the input stages.
    """
    value = {"stage": stage, "tagpr": __version__, "settings": settings, "seed": seed, "inputs": list(inputs)}
    if reads:
        value["reads"] = dict(reads)
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a stage folder, by relative path."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            with open(path, "rb") as stream:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide a result (installed ones only)."""
    found = {"tagpr": __version__}
    for name in _VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
