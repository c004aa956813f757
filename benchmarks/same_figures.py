"""Two run folders, metric by metric, to the digit: did a change of the code change what a recipe computes?

    python benchmarks/same_figures.py runs/before/smoke runs/smoke

Compares the evaluation (every metric, interval, difference and history bin of every system), the metrics of every
stage's manifest, every row of the training logs and the reward model's diagnosis. Times, memory and dates are left out.
Prints what differs and one line per part; exits with 1 when a value differs or is missing in the second folder. Metrics
that only the second folder has are counted, not compared. Both schemas of the evaluation are read: `metrics.json`
(until 0.1) and `results.json`.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Key = tuple[str, ...]
STAGES = ("data", "chains", "sft", "prmu", "guided", "exploratory", "evaluate")
MEASURED = ("seconds", "memory", "per_second")
"""Parts of a name that say it is measured anew in every execution."""
SHOWN = 40


def read_values(run: Path) -> dict[Key, Any]:
    """Every compared value of a run folder by its path: (part, ...)."""
    found: dict[Key, Any] = {}
    for stage in STAGES:
        manifest = run / stage / "manifest.json"
        if stage != "evaluate" and manifest.is_file():
            value = json.loads(manifest.read_text(encoding="utf-8"))
            found |= _flat((f"{stage} manifest",), value.get("metrics", value.get("figures", {})))
        log = run / stage / "log.jsonl"
        if log.is_file():
            for number, line in enumerate(log.read_text(encoding="utf-8").splitlines(), 1):
                found |= _flat((f"{stage} log", f"row {number}"), json.loads(line))
    diagnosis = run / "prmu" / "diagnosis.json"
    if diagnosis.is_file():
        found |= _flat(("prmu diagnosis",), json.loads(diagnosis.read_text(encoding="utf-8")))
    found = {key: value for key, value in found.items() if not any(part in key[-1] for part in MEASURED)}
    results, metrics = run / "evaluate" / "results.json", run / "evaluate" / "metrics.json"
    if results.is_file():
        found |= dict(_results(json.loads(results.read_text(encoding="utf-8"))))
    elif metrics.is_file():
        found |= dict(_old_metrics(json.loads(metrics.read_text(encoding="utf-8"))))
    return found


def _flat(at: Key, value: Any) -> dict[Key, Any]:
    """Every leaf of nested JSON by its path."""
    if isinstance(value, dict):
        return {key: leaf for name, child in value.items() for key, leaf in _flat((*at, str(name)), child).items()}
    if isinstance(value, list):
        return {key: leaf for i, child in enumerate(value) for key, leaf in _flat((*at, str(i)), child).items()}
    return {at: value}


def _old_metrics(metrics: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
    """`metrics.json`: trivial baselines apart, differences as "A - B" and to base."""
    for task, block in metrics["tasks"].items():
        at = ("evaluation", task)
        for key in ("n", "users", "metric", "kind"):
            yield (*at, key), block[key]
        for name, points in (block["systems"] | block["sanity"]).items():
            yield from _flat((*at, name, "points"), points).items()
        yield from _flat((*at, "intervals"), block["intervals"]).items()
        for name, difference in block["difference_to_base"].items():
            yield from _flat((*at, f"{name} - base"), difference).items()
        for pair, difference in block["differences"].items():
            yield from _flat((*at, pair), difference).items()
        for name, rows in block.get("by_history_length", {}).items():
            yield from _flat((*at, name, "by history length"), rows).items()


def _results(results: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
    """`results.json`: every system alike, differences by reference."""
    for task, block in results["tasks"].items():
        at = ("evaluation", task)
        for key in ("n", "users", "metric", "kind"):
            yield (*at, key), block[key]
        for name, scores in block["systems"].items():
            yield from _flat((*at, name, "points"), scores["points"]).items()
            yield from _flat((*at, "intervals", name), scores["intervals"]).items()
            yield from _flat((*at, name, "by history length"), scores["by_history_length"]).items()
        for reference, by_system in block["differences"].items():
            for name, difference in by_system.items():
                yield from _flat((*at, f"{name} - {reference}"), difference).items()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="run folder before the change")
    parser.add_argument("new", type=Path, help="run folder after it")
    arguments = parser.parse_args()
    old, new = read_values(arguments.old), read_values(arguments.new)
    if not old:
        parser.error(f"{arguments.old}: holds no metrics of a run")
    wrong = [key for key, value in old.items() if key not in new or new[key] != value]
    for key in wrong[:SHOWN]:
        print(f"{' / '.join(key)}: {old[key]!r} -> {new.get(key, 'missing')!r}")
    if len(wrong) > SHOWN:
        print(f"... and {len(wrong) - SHOWN} more")
    compared, different = Counter(key[0] for key in old), Counter(key[0] for key in wrong)
    added = Counter(key[0] for key in new.keys() - old.keys())
    print(f"{'part':<22} {'values':>7} {'different':>10} {'only new':>9}")
    for part in sorted(compared.keys() | added.keys()):
        print(f"{part:<22} {compared[part]:>7} {different[part]:>10} {added[part]:>9}")
    print("different" if wrong else "equal to the digit")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
