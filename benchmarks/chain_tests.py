"""Does the answer follow from the chain? Causal tests of the quickstart's chains, after SFT and after RL.

    make run && PYTHONPATH=benchmarks .venv/bin/python benchmarks/chain_tests.py     # some minutes on two cores

Every held-out chain is changed (`tagpr.evaluation.interventions`) and the model goes on from there: what `tagpr
analyse` does with the final model, for both. Answers are kept in the run folder, and after each system
benchmarks/results/chain-tests.json is written.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from results_file import write_results
from tagpr.evaluation.interventions import ChainTests
from tagpr.experiments.analyse import chain_tests
from tagpr.experiments.interview import Interview
from tagpr.pipeline import make
from tagpr.runs import Run

COMMAND = "python benchmarks/chain_tests.py"
SYSTEMS = ("sft", "final")


def figures_of(tests: ChainTests) -> dict[str, object]:
    """The outcome of every intervention, and how much of what is claimed is true here and of another question."""
    return {
        "interventions": {kind: asdict(test) for kind, test in tests.interventions.items()},
        "true claims": tests.true_claims,
        "true claims of another question's history": tests.true_claims_elsewhere,
    }


def main() -> None:
    """Test both systems on every task and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    run = Run.open(arguments.recipe, runs=arguments.runs)
    make(run)
    interview = Interview(run, run.checkpoints(SYSTEMS))
    found: dict[str, dict[str, object]] = {system: {} for system in SYSTEMS}
    for system in SYSTEMS:
        for name in run.data:
            questions = interview.questions(system, name, interview.heldout(name))
            own = interview.answers("chain tests", system, name, {"own": questions})["own"]
            found[system][name] = figures_of(chain_tests(interview, system, name, own))
        write_results("chain-tests", COMMAND, {"complete": system == SYSTEMS[-1], **found})


if __name__ == "__main__":
    main()
