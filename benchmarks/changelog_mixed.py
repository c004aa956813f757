"""Does it help the quickstart's SFT to mix label rows into the chains, in as many steps?

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_mixed.py     # about 20 minutes on one core

Every chain row and as many label rows, half an epoch of them. Asked on the questions of `rl_over_sft.py`. Writes
benchmarks/results/changelog-mixed.json: exact match and true claims, and the differences to label SFT and to SFT on
chains over users.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from real_people import MIXED
from results_file import write_results
from rl_over_sft import answers, difference, scores
from tagpr.pipeline import make_variant
from tagpr.runs import Run


def main() -> None:
    """Train, ask and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    mixed = make_variant(run, MIXED)
    rows = answers(run, run.checkpoints(("labels", "sft")))
    rows["mixed"] = answers(mixed, mixed.checkpoints(("sft",)))["sft"]
    figures = {
        "questions": len(rows["sft"]),
        "users": len({row.user_id for row in rows["sft"]}),
        "systems": {name: scores(own) for name, own in rows.items()},
        "mixed minus labels": asdict(difference(rows["mixed"], rows["labels"])),
        "mixed minus sft": asdict(difference(rows["mixed"], rows["sft"])),
    }
    write_results("changelog-mixed", "make run && python benchmarks/changelog_mixed.py", figures)


if __name__ == "__main__":
    main()
