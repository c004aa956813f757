"""`tagpr prmu bench`: a run's reward model on its held-out pairs, beside the same model without users."""

from dataclasses import replace
from pathlib import Path

from tagpr.experiments.variants import REWARD_MODELS
from tagpr.files import write_json
from tagpr.pipeline import make
from tagpr.prmu.bench import PRMUBench
from tagpr.runs import Run


def bench_prmu(run: Run) -> PRMUBench:
    """Train the rival without users if it is missing, judge both, and write `analyses/prmu-bench.json`.

    Raises RunError if the prmu stage has not been run, DataError if it has no held-out pair.
    """
    from tagpr.prmu.bench import bench
    from tagpr.prmu.data import read_pairs
    from tagpr.prmu.histories import user_histories
    from tagpr.prmu.rivals import by_length, by_linear_model, by_reward_model
    from tagpr.prmu.score import PRMU

    run.require("prmu")
    variant = REWARD_MODELS["PRMU w/o UE"]  # the ablation's; human pairs alone need no chains and no SFT
    made = tuple(stage for stage in variant.shared if run.manifest(stage) is not None)
    rival = replace(variant, shared=made).open(run)
    make(rival, "prmu")
    rivals = {"majority length": by_length, "linear model": by_linear_model}
    if run.recipe.prmu.reward_model is not None:
        spec = run.recipe.prmu.reward_model
        judged = by_reward_model(spec, run.tokenizer)
        rivals[Path(spec).name if Path(spec).is_dir() else spec] = lambda train: judged
    found = bench(
        PRMU.from_pretrained(run.folder.model("prmu")),
        PRMU.from_pretrained(rival.folder.model("prmu")),
        read_pairs(run.folder.pairs),
        run.seed,
        user_histories(run.tasks, run.train, run.prompts, run.recipe.prmu),
        rivals,
    )
    write_json(run.folder.analyses / "prmu-bench.json", found.to_json())
    return found
