"""The stages that make training data: the examples of the sources, and their chains (stage 0)."""

import logging

from tagpr.files import write_json
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.runs.metrics import ChainMetrics, DataMetrics

logger = logging.getLogger(__name__)


def make_data(run: Run, context: StageContext) -> DataMetrics:
    """Read histories and questions, split them."""
    from tagpr.data import load_splits, write_examples
    from tagpr.data.rejects import write_rejects

    splits = load_splits(run.recipe.data, context.seed, run.base)
    for name, split in splits.items():
        write_examples(context.out / name / "train.jsonl", split.train)
        write_examples(context.out / name / "heldout.jsonl", split.heldout)
        if split.rejects:
            write_rejects(context.out / name / "rejects.jsonl", split.rejects)
            kept = run.folder.stage("data") / name / "rejects.jsonl"
            logger.warning("data: %s: %d left out, with reasons in %s", name, len(split.rejects), kept)
    write_json(context.out / "tasks.json", [split.task.model_dump(mode="json") for split in splits.values()])
    metrics = DataMetrics({name: split.report for name, split in splits.items()})
    write_json(context.out / "report.json", metrics.model_dump(mode="json", exclude_none=True))
    return metrics


def make_chains(run: Run, context: StageContext) -> ChainMetrics:
    """Tagged reasoning chains for the training examples."""
    from tagpr.chains.build import build_chains

    prompts = run.prompts_of(run.named_vocabulary)  # not those of an earlier execution, which may have found other tags
    funnel = build_chains(run.recipe.chains, run.tasks, run.train, prompts.build, context)
    return ChainMetrics({step.step: step.total for step in funnel.steps})
