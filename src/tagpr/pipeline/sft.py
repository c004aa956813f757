"""The SFT stage and its rival on labels: rows from the kept chains and the examples' targets, and the training."""

import shutil

from tagpr import processes
from tagpr.files import link_tree
from tagpr.progress import StageContext
from tagpr.runs import Run
from tagpr.training.metrics import SFTMetrics
from tagpr.training.rows import TrainingRow


def train_policy(run: Run, context: StageContext) -> SFTMetrics:
    """SFT on the kept chains; or the checkpoint that `sft.checkpoint` names, linked, with its tags beside it."""
    from tagpr.training.sft import train_sft
    from tagpr.training.sft_rows import mixed

    if run.recipe.sft.checkpoint is None:
        settings, groups = run.recipe.sft, chain_groups(run)
        if settings.mix:
            groups = mixed(groups, label_groups(run), settings.mix, context.seed)
        return train_sft(run.model, groups, settings, context, everyone=learned_of(run))
    from tagpr.engine.models import resolve_model

    if processes.is_first():
        shutil.rmtree(context.out / "model", ignore_errors=True)
        link_tree(resolve_model(run.recipe.sft.checkpoint), context.out / "model")
        run.vocabulary.write(context.out / run.folder.taught_vocabulary.name)
    return SFTMetrics()


def train_on_labels(run: Run, context: StageContext) -> SFTMetrics:
    """The rival of SFT on chains: the training examples' labels alone, as many optimizer steps."""
    from tagpr.training.sft import train_sft

    chains = run.manifest("sft")
    assert chains is not None and isinstance(chains.metrics, SFTMetrics)  # an input of this stage
    settings = run.recipe.sft.model_copy(update={"mix": 0.0})
    steps = chains.metrics.steps
    return train_sft(run.model, label_groups(run), settings, context, steps=steps, everyone=learned_of(run))


def learned_of(run: Run) -> set[str]:
    """The users of the training examples, of whom both trainings hold out the same, chains or not."""
    return {example.user_id for train in run.train.values() for example in train}


def chain_groups(run: Run) -> list[TrainingRow]:
    """The kept chains in token ids, those of one example together, for SFT."""
    from tagpr.chains.dataset import completions_by_example, read_chains
    from tagpr.systems.rows import training_row

    tasks, prompts = run.tasks, run.prompts
    examples = {(name, example.id): example for name, train in run.train.items() for example in train}
    chains = completions_by_example(read_chains(run.folder.stage("chains")))
    weight = run.recipe.sft.answer_weight
    return [training_row(prompts, tasks[key[0]], examples[key], texts, weight) for key, texts in chains.items()]


def label_groups(run: Run) -> list[TrainingRow]:
    """Every training example with its target, under the prompt for the bare answer, for `sft.mix`."""
    from tagpr.prompts.prompt_builder import PromptBuilder
    from tagpr.systems.rows import training_row

    recipe = run.recipe
    prompts = PromptBuilder(run.tokenizer, recipe.profile, recipe.prompt, (), recipe.seed)
    return [
        training_row(prompts, run.tasks[name], example, [example.target])
        for name, train in run.train.items()
        for example in train
        if example.target
    ]
