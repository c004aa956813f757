"""Two other SFTs for the quickstart: label rows mixed into the chains; three epochs for one.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_sft.py     # about an hour on one core

Mixed: every chain row and as many label rows, half an epoch of them, so in as many steps as the quickstart's SFT.
Longer: SFT on chains and its rival on labels both take three epochs' steps of the chains, and both keep the weights
with the least loss on 24 held-out training users. Asked on the questions of `rl_over_sft.py`. Writes
benchmarks/results/changelog-sft.json: exact match and true claims, the differences over users, and the losses by which
the longer ones were stopped. Killed, the same command goes on.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from real_people import mixed_variant
from results_file import write_results
from rl_over_sft import answers, difference, scores
from tagpr.files import read_jsonl
from tagpr.pipeline import make, make_variant
from tagpr.runs import Run, Variant

LONGER = Variant(
    "longer",
    ("sft.epochs=3", "sft.heldout_users=24", "sft.heldout_every=60"),
    shared=("data", "chains"),
    last="sft",
)
PAIRS = [
    ("mixed", "labels"),
    ("mixed", "chains"),
    ("longer, chains", "chains"),
    ("longer, labels", "labels"),
    ("longer, chains", "longer, labels"),
    ("longer, chains", "labels"),
]


def main() -> None:
    """Train, ask and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    mixed, longer = make_variant(run, mixed_variant()), make_variant(run, LONGER)
    make(longer, "labels")
    own = answers(run, run.checkpoints(("labels", "sft")))
    more = answers(longer, longer.checkpoints(("labels", "sft")))
    rows = {"labels": own["labels"], "chains": own["sft"]}
    rows["mixed"] = answers(mixed, mixed.checkpoints(("sft",)))["sft"]
    rows |= {"longer, labels": more["labels"], "longer, chains": more["sft"]}
    figures = {
        "questions": len(rows["chains"]),
        "users": len({row.user_id for row in rows["chains"]}),
        "systems": {name: scores(found) for name, found in rows.items()},
        "differences": {f"{a} minus {b}": asdict(difference(rows[a], rows[b])) for a, b in PAIRS},
        "held-out loss of the longer ones": {
            "labels": read_jsonl(longer.folder.stage("labels") / "heldout.jsonl"),
            "chains": read_jsonl(longer.folder.stage("sft") / "heldout.jsonl"),
        },
    }
    write_results("changelog-sft", "make run && python benchmarks/changelog_sft.py", figures)


if __name__ == "__main__":
    main()
