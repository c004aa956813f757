"""The paper's variants of TagPR (tables 1 and 4): what each changes, and the checkpoint it ends with.

w/o SFT is one experiment here: RL from the untrained model with everything else as in the run, so that its reward model
is the run's own. The paper takes the SFT phase away and says nothing of another reward model, whose pairs are
a data set of their own.
"""

from tagpr.pipeline import make_variant
from tagpr.runs import Run, Variant
from tagpr.runs.run import cost_of
from tagpr.systems.context import Trained

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("tagpr"),
        Variant("w/o-exploratory", last="guided"),
        Variant("w/o-rl", last="sft"),
        Variant("w/o-sft", ("sft.checkpoint={model}",), shared=("data", "chains", "prmu")),
        Variant("w/o-tag", ("rewards.beta=0",), shared=("data", "chains", "sft", "prmu")),
        Variant("w/o-reward", ("rewards.gamma=0",), shared=("data", "chains", "sft")),
    )
}
"""By name: the rows of table 1's last part, and w/o exploratory RL."""
_TO_SFT = ("data", "chains", "sft")
REWARD_MODELS = {
    "w/o RM": VARIANTS["w/o-reward"],
    "Untrained RM": Variant("prmu-untrained", ("prmu.epochs=0",), shared=_TO_SFT),
    "PRMU w/o UE": Variant("prmu-no-users", ("prmu.user_option=none",), shared=_TO_SFT),
    "PRMU": VARIANTS["tagpr"],
}
"""By the row's name in table 4: one reward model each, all else equal."""


def weighted(alpha: float, beta: float, gamma: float) -> Variant:
    """The run with other weights of the reward (table 6)."""
    weights = {"alpha": alpha, "beta": beta, "gamma": gamma}
    return Variant(
        f"rewards-{alpha:g}-{beta:g}-{gamma:g}",
        tuple(f"rewards.{name}={value:g}" for name, value in weights.items()),
        shared=("data", "chains", "sft", "prmu"),
    )


def trained(run: Run, variant: Variant) -> Trained:
    """The checkpoint of a variant, trained as far as it is missing, and the cost of all stages it takes."""
    changed = make_variant(run, variant)
    manifests = [run.manifest(stage) for stage in variant.taken]
    manifests += [changed.manifest(stage) for stage in variant.own(changed)]
    return Trained(changed.folder.model(variant.last), cost_of(found for found in manifests if found is not None))
