"""The PRMU stage: its questions and histories from the run's data, and the training."""

from tagpr.prmu.metrics import PRMUMetrics
from tagpr.progress import StageContext
from tagpr.runs import Run


def train_reward_model(run: Run, context: StageContext) -> PRMUMetrics:
    """The personalization reward model, on preference pairs of the policy's rollouts or human ones."""
    from tagpr.engine.models import resolve_model
    from tagpr.prmu.histories import user_histories
    from tagpr.prmu.questions import pair_questions
    from tagpr.prmu.stage import make_prmu

    settings, data = run.recipe.prmu, (run.tasks, run.train, run.prompts)
    return make_prmu(
        run.folder.model("sft"),
        run.model if settings.backbone is None else resolve_model(settings.backbone),
        pair_questions(*data, settings, context.seed) if settings.uses_rollouts else (),
        user_histories(*data, settings),
        run.tokenizer,
        run.vocabulary,
        settings,
        context,
    )
