"""Writing `benchmarks/results/NAME.json`: figures with the command, machine, date and versions that made them."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagpr.files import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
PACKAGES = ("tagpr", "torch", "transformers", "trl", "numpy", "pyarrow", "rapidfuzz", "rank-bm25", "rouge-score")


def write_results(name: str, command: str, figures: dict[str, Any]) -> Path:
    """Write the results file `name` and return its path."""
    path = RESULTS / f"{name}.json"
    content = {
        "command": command,
        "machine": machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version(), **_versions()},
        "figures": figures,
    }
    write_json(path, content)
    return path


def add_results(script: str, task: str, call: str, found: dict[str, Any]) -> None:
    """Add a call's figures, named like "seed 0, epochs 3", to the file of `script`; what other calls measured stays."""
    name = script.replace("_", "-")
    path = RESULTS / f"{name}.json"
    figures = read_json(path)["figures"] if path.is_file() else {}
    figures.setdefault(task, {})[call] = found
    commands = [
        f"python benchmarks/{script}.py --task {one} --{each.replace(', ', ' --')}"
        for one, calls in figures.items()
        for each in calls
    ]
    write_results(name, "; ".join(commands), figures)


def write_chart(name: str, svg: str) -> None:
    """Write the chart `docs/NAME.svg`, drawn from a results file's figures."""
    write_text(DOCS / f"{name}.svg", svg + "\n")


def machine() -> str:
    """Processor, usable cores and memory in one line."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, StopIteration, ValueError):
        return f"{model}, {os.cpu_count()} cores"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def peak_gib() -> float:
    """Most memory that this process has held since it was started, in GiB (`ru_maxrss` begins at its parent's)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
