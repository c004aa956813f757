"""The stages that say how good it is: evaluate and report."""

from dataclasses import replace

from tagpr.files import weights_key
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.runs.metrics import EvaluationMetrics, ReportMetrics


def evaluate(run: Run, context: StageContext) -> EvaluationMetrics:
    """Every system's answers to the held-out examples, scored."""
    from tagpr.evaluation.evaluate import RewardModel, evaluate_systems
    from tagpr.prmu.stage import scorer

    settings = run.recipe.evaluate
    checkpoints = run.checkpoints(settings.systems)
    given = replace(run.context(), folder=context.out, progress=context.progress)
    prmu = None
    if settings.asks_prmu:
        folder, heldout = run.folder.model("prmu"), {name: splits.heldout for name, splits in run.data.items()}
        prmu = RewardModel(scorer(folder, run.tasks, heldout, run.prompts), weights_key(folder))
    results = evaluate_systems(checkpoints, run.data, given, settings, run.judges, prmu)
    return EvaluationMetrics(
        {
            name: {system: dict(scores.points) for system, scores in task.systems.items()}
            for name, task in results.tasks.items()
        }
    )


def report(run: Run, context: StageContext) -> ReportMetrics:
    """The HTML report of the run."""
    from tagpr.report import write_report

    write_report(run.folder.path, context.out)
    return ReportMetrics()
