"""One stage: declared as data, made in a work folder that is renamed when complete, so a kill never leaves half of it.

What the stages of a recipe are is `tagpr.pipeline`'s; where they are on disk `tagpr.runs.layout`'s.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import JsonValue

from tagpr import processes
from tagpr.errors import RunError
from tagpr.files import replace_folder
from tagpr.progress import Progress, StageContext
from tagpr.runs.manifest import Manifest, Measured, file_digests, read_manifest, stage_hash, versions
from tagpr.runs.metrics import StageMetrics
from tagpr.stages import StageName

logger = logging.getLogger(__name__)

RunT = TypeVar("RunT")


@dataclass(frozen=True)
class Stage(Generic[RunT]):
    """One stage of a run."""

    name: StageName
    inputs: tuple[StageName, ...]
    """Stages whose output this one reads."""
    blocks: tuple[str, ...]
    """The keys of the recipe that it depends on."""
    make: Callable[[RunT, StageContext], StageMetrics]
    """Writes the stage's files and returns metrics for the manifest."""
    reads: Callable[[RunT], Mapping[str, str]] = lambda run: {}
    """Fingerprints, by name, of what it reads from outside the run; another content makes the stage again."""
    every_process: bool = False
    """Whether all processes of a command work on it; else the first alone does, and the others wait."""


@dataclass(frozen=True)
class Work:
    """A stage with everything that decides its output, ready to be made in a run folder."""

    stage: StageName
    settings: Mapping[str, JsonValue]
    reads: Mapping[str, str]
    inputs: tuple[StageName, ...]
    seed: int
    make: Callable[[StageContext], StageMetrics]
    every_process: bool = False


def is_made(run: Path, work: Work) -> bool:
    """Whether the stage is there, made from just this."""
    inputs: dict[StageName, Manifest | None] = {name: read_manifest(run / name) for name in work.inputs}
    made = read_manifest(run / work.stage)
    hashes: dict[StageName, str] = {name: found.hash for name, found in inputs.items() if found is not None}
    return made is not None and len(hashes) == len(inputs) and made.hash == _hash(work, hashes)


def _hash(work: Work, inputs: Mapping[StageName, str]) -> str:
    return stage_hash(work.stage, work.settings, work.reads, work.seed, list(inputs.values()))


def run_stage(run: Path, work: Work, progress: Progress) -> tuple[Manifest, bool]:
    """Make one stage of the run folder `run` unless it is there already with the same hash.

    With several processes the first decides and publishes. Returns (manifest, made). Raises RunError if an input stage
    has not been run.
    """
    inputs: dict[StageName, str] = {}
    for name in work.inputs:
        manifest = read_manifest(run / name)
        if manifest is None:
            raise RunError(f"{run}: stage '{work.stage}' needs stage '{name}'; run `tagpr run` or that stage first")
        inputs[name] = manifest.hash
    digest = _hash(work, inputs)
    final, folder = run / work.stage, run / ".work" / f"{work.stage}-{digest[:16]}"
    existing = read_manifest(final)
    existing = processes.from_first(existing if existing is not None and existing.hash == digest else None)
    if existing is not None:
        _require_files(final, existing)
        return existing, False
    manifest = processes.from_first(read_manifest(folder))
    if manifest is None:  # else: killed between writing the manifest and the rename
        manifest = _make(folder, work, digest, inputs, progress)
    if processes.is_first():
        _publish(run, work.stage, folder)
    made = processes.from_first(manifest)
    assert made is not None  # process 0 has made it
    return made, True


def _make(
    folder: Path, work: Work, digest: str, inputs: Mapping[StageName, str], progress: Progress
) -> Manifest | None:
    """The stage in its work folder; its manifest on the first process, None on the others."""
    resumed = _open(folder, work.stage) if processes.is_first() else False
    processes.wait()
    started, cpu, reset = time.monotonic(), time.process_time(), _reset_peak_memory()
    metrics: StageMetrics | None = None
    if work.every_process or processes.is_first():
        metrics = work.make(StageContext(folder, work.seed, progress))
    cpu_seconds = sum(processes.everyones(time.process_time() - cpu))
    if metrics is None or not processes.is_first():
        return None
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    manifest = Manifest(
        stage=work.stage,
        hash=digest,
        seed=work.seed,
        settings=dict(work.settings),
        reads=dict(work.reads),
        inputs={**inputs},
        versions=versions(),
        files=file_digests(folder),
        metrics=metrics,
        measured=Measured(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - started, 1),
            cpu_seconds=round(cpu_seconds, 1),
            peak_memory_mib=_peak_memory_mib() if reset else None,
            resumed=resumed,
            processes=processes.count(),
        ),
    )
    manifest.write(folder)
    return manifest


def _open(folder: Path, stage: StageName) -> bool:
    """Make the work folder, or clean what a kill left of it; returns whether there was one."""
    folder.mkdir(parents=True, exist_ok=True)
    resumed = any(folder.iterdir())
    for torn in list(folder.rglob(".*.tmp")):  # what a kill left of an atomic write (tagpr.files); the run is locked
        if torn.is_dir():
            shutil.rmtree(torn)
        else:
            torn.unlink(missing_ok=True)  # one in a folder that is gone
    if resumed:
        logger.info("%s: continuing where it was stopped", stage)
    return resumed


def _publish(run: Path, stage: str, folder: Path) -> None:
    """Put a complete work folder in the stage's place."""
    replace_folder(folder, run / stage)
    for leftover in (run / ".work").glob(f"{stage}-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # work under settings that are no longer the recipe's


def _require_files(folder: Path, manifest: Manifest) -> None:
    missing = [name for name in manifest.files if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder / missing[0]}: file of a complete stage is gone; delete {folder} and run again")


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run's lock; raises RunError if another process works on it. The lock dies with its process."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:  # a file system such as /proc, where no folder can be made
        raise RunError(f"{run}: cannot be made there; name a folder that can be written") from None
    with open(run / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{run}: another process is working on this run; wait for it or use another name") from error
        yield


def _reset_peak_memory() -> bool:
    """Reset the kernel's high-water mark of this process's memory (Linux); False if that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return True
    except OSError:
        return False


def _peak_memory_mib() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), None)
