"""Run folders: a stage runs in a work folder that is renamed when complete, so a kill never leaves half a stage.

    runs/NAME/STAGE/             a complete stage: its files and manifest.json
    runs/NAME/.work/STAGE-HASH/  a stage in progress; a rerun with the same settings and inputs continues it
    runs/NAME/.lock              held while a process works on the run

`manifest.json` holds what the stage was made from (hash of settings and inputs, versions, seed), the digest of every
file it wrote, and, under `measured`, what differs from one execution to the next (date, seconds, memory).
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tagpr import __version__
from tagpr.errors import RunError
from tagpr.files import read_json, write_json
from tagpr.progress import Progress

logger = logging.getLogger(__name__)

_VERSIONED = ("torch", "transformers", "trl", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class Stage:
    """One stage of a run."""

    name: str
    inputs: tuple[str, ...]
    """Stages whose output this one reads."""
    settings: Mapping[str, Any]
    """The parts of the recipe that this stage depends on, JSON-able."""
    make: Callable[[Path, Progress], dict[str, Any]]
    """Writes the stage's files into the folder it is given and returns figures for the manifest."""


def stage_hash(stage: Stage, seed: int, input_hashes: Sequence[str]) -> str:
    """Hash of everything that decides a stage's output: package version, settings, seed and the inputs' hashes."""
    value = {
        "stage": stage.name,
        "tagpr": __version__,
        "settings": stage.settings,
        "seed": seed,
        "inputs": list(input_hashes),
    }
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete stage folder, or None. Raises RunError where the file is damaged."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        manifest = read_json(path)
        manifest["hash"], manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged manifest; delete the folder {folder} and run again") from error
    return manifest


def run_stage(run: Path, stage: Stage, seed: int, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Make one stage of `run` unless it is there already with the same hash.

    Returns (manifest, made). Raises RunError where an input stage has not been run.
    """
    input_hashes = []
    for name in stage.inputs:
        manifest = read_manifest(run / name)
        if manifest is None:
            raise RunError(f"{run}: stage '{stage.name}' needs stage '{name}'; run `tagpr run` or that stage first")
        input_hashes.append(manifest["hash"])
    digest = stage_hash(stage, seed, input_hashes)
    final = run / stage.name
    work = run / ".work" / f"{stage.name}-{digest[:16]}"

    existing = read_manifest(final)
    if existing is not None and existing["hash"] == digest:
        _require_files(final, existing)
        return existing, False
    if read_manifest(work) is None:  # else: killed between writing the manifest and the rename
        work.mkdir(parents=True, exist_ok=True)
        resumed = any(work.iterdir())
        for torn in list(work.rglob(".*.tmp")):  # what a kill left of an atomic write (tagpr.files); the run is locked
            if torn.is_file():
                torn.unlink()
        if resumed:
            logger.info("%s: continuing where it was stopped", stage.name)
        started, cpu, reset = time.monotonic(), time.process_time(), _reset_peak_memory()
        figures = stage.make(work, progress)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        write_json(
            work / "manifest.json",
            {
                "stage": stage.name,
                "hash": digest,
                "seed": seed,
                "settings": stage.settings,
                "inputs": dict(zip(stage.inputs, input_hashes, strict=True)),
                "versions": versions(),
                "files": _digests(work),
                "figures": figures,
                "measured": {
                    "date": datetime.now(UTC).isoformat(timespec="seconds"),
                    "seconds": round(time.monotonic() - started, 1),
                    "cpu_seconds": round(time.process_time() - cpu, 1),
                    "peak_memory_mib": _peak_memory_mib() if reset else None,
                    "resumed": resumed,
                },
            },
        )
    if final.exists():
        replaced = run / ".work" / f"replaced-{stage.name}"
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(final, replaced)
    os.replace(work, final)
    for leftover in (run / ".work").glob(f"{stage.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # work under settings that are no longer asked for
    shutil.rmtree(run / ".work" / f"replaced-{stage.name}", ignore_errors=True)
    manifest = read_manifest(final)
    assert manifest is not None
    return manifest, True


def _require_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    missing = [name for name in manifest["files"] if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder / missing[0]}: file of a complete stage is gone; delete {folder} and run again")


def _digests(folder: Path) -> dict[str, str]:
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


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run's lock; raises RunError where another process works on it. The lock dies with its process."""
    run.mkdir(parents=True, exist_ok=True)
    with open(run / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{run}: another process is working on this run; wait for it or use another name") from error
        yield


def _reset_peak_memory() -> bool:
    """Reset the kernel's high-water mark of this process's memory (Linux); False where that cannot be done."""
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
