"""Does it help the quickstart's SFT to mix label rows into the chains, in as many steps?

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/rl_over_sft.py
    PYTHONPATH=benchmarks .venv/bin/python benchmarks/changelog_mixed.py     # about 15 minutes on one core

Every chain row and as many label rows, half an epoch of them. Asked on the questions of `rl_over_sft.py`, whose answers
are taken from the run. Writes benchmarks/results/changelog-mixed.json: exact match and true claims, and the differences
to label SFT and to SFT on chains over users.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from real_people import MIXED
from results_file import write_results
from rl_over_sft import BLOCK, PER_USER, answers, ask, difference, scores, test_questions
from tagpr.pipeline import make_variant
from tagpr.runs import Run


def main() -> None:
    """Train, ask and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    run = Run.open("quickstart", runs=parser.parse_args().runs)
    mixed, questions = make_variant(run, MIXED), test_questions(run, PER_USER)
    blocks = [questions[i : i + BLOCK] for i in range(0, len(questions), BLOCK)]
    rows = answers(run, ("labels", "sft"))
    found = list(ask(run, "sft", mixed.folder.model("sft"), blocks, mixed.folder.path / "answers"))
    rows["mixed"] = sorted(found, key=lambda row: row.id)
    figures = {
        "questions": len(questions),
        "users": len({question.user_id for question in questions}),
        "systems": {name: scores(own) for name, own in rows.items()},
        "mixed minus labels": asdict(difference(rows["mixed"], rows["labels"])),
        "mixed minus sft": asdict(difference(rows["mixed"], rows["sft"])),
    }
    write_results("changelog-mixed", "make run && python benchmarks/changelog_mixed.py", figures)


if __name__ == "__main__":
    main()
