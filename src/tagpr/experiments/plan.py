"""`tagpr plan`: whether the training stages of a run fit into given GPUs, and which setting to change if not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tagpr.errors import ModelError, RecipeError
from tagpr.runs import Run
from tagpr.training.scale.plan import Change, Hardware, Lengths, Models, StagePlan, changes, plan_rl, plan_sft
from tagpr.training.scale.shape import ModelShape, shape_of
from tagpr.training.settings import GSPOSettings, SFTSettings


@dataclass(frozen=True)
class RunPlan:
    """The stages of a run on given GPUs."""

    model: str
    hardware: Hardware
    stages: tuple[StagePlan, ...]
    advice: dict[str, str]
    """By stage that does not fit: what to change."""

    def lines(self) -> list[str]:
        """The plan as a table, one line per stage."""
        h = self.hardware
        head = f"{self.model}, {h.gpus} x {h.gib:g} GiB, {'sharded' if h.sharded else 'whole on every GPU'}"
        columns = f"{'stage':<12}{'parameters':>12}{'trained':>12}{'state':>9}{'update':>9}{'rollout':>9}"
        rows = [head, f"{columns}{'others':>9}{'peak':>9}  tokens per step"]
        for s in self.stages:
            sizes = "".join(f"{size:>9.1f}" for size in (s.state, s.update, s.generation, s.others, s.peak))
            mark = "" if s.fits else "  does not fit"
            rows.append(
                f"{s.stage:<12}{_count(s.parameters):>12}{_count(s.trained):>12}{sizes}  {s.tokens_per_step:,}{mark}"
            )
        return [*rows, f"GiB per GPU; up to {self.stages[0].limit:.1f} may be used"]

    def require(self) -> None:
        """Raise RecipeError, with the setting to change, if a stage does not fit."""
        for s in self.stages:
            if not s.fits:
                raise RecipeError(
                    f"{s.stage} needs {s.peak:.0f} GiB on each of {self.hardware.gpus} GPUs and may use "
                    f"{s.limit:.0f}; {self.advice[s.stage]}"
                )


def plan_run(run: Run, hardware: Hardware) -> RunPlan:
    """Plan SFT and the two RL stages from the recipe and the model's config.json. Raises ModelError without one."""
    recipe = run.recipe
    policy, reward = shape_of(recipe.model), _reward(run)
    stages, advice = [], {}
    for name in ("sft", "guided", "exploratory"):
        settings: SFTSettings | GSPOSettings = getattr(recipe, name)
        if name == "sft" and recipe.sft.checkpoint is not None:
            continue
        models = Models(policy, reward if name == "guided" else None)

        def plan(changed: SFTSettings | GSPOSettings, on: Hardware, stage: str = name, m: Models = models) -> StagePlan:
            lengths = _lengths(run, changed)
            if isinstance(changed, SFTSettings):
                return plan_sft(changed, m, lengths, on)
            return plan_rl(stage, changed, recipe.rl, m, lengths, on)

        made = plan(settings, hardware)
        stages.append(made)
        if made.fits:
            continue
        advice[name] = f"no setting makes it fit into {hardware.gpus} GPUs of this size; use more GPUs or larger ones"

        def fits(change: Change, s: SFTSettings | GSPOSettings = settings) -> bool:
            on = replace(hardware, sharded=hardware.sharded or change.sharded)
            return plan(s.model_copy(update=dict(change.settings)), on).fits

        enough = next(filter(fits, changes(settings, _lengths(run, settings), hardware)), None)
        if enough is not None:
            advice[name] = _least(enough, fits).words(name)
    return RunPlan(recipe.model, hardware, tuple(stages), advice)


def _least(change: Change, fits: Callable[[Change], bool]) -> Change:
    """The change without those of its settings that it does not need."""
    for key in change.settings:
        smaller = replace(change, settings={k: v for k, v in change.settings.items() if k != key})
        if fits(smaller):
            change = smaller
    return change


def _lengths(run: Run, settings: SFTSettings | GSPOSettings) -> Lengths:
    prompt = run.recipe.prompt.max_prompt_tokens
    if isinstance(settings, SFTSettings):
        longest = max(1, settings.max_length - prompt)
        chains = run.recipe.chains
        return Lengths(min(prompt, settings.max_length - 1), longest, chains.keep_per_example or chains.samples)
    return Lengths(prompt, settings.max_new_tokens, settings.group_size)


def _reward(run: Run) -> ModelShape | None:
    if not run.recipe.rewards.gamma:
        return None
    try:
        return shape_of(run.recipe.prmu.backbone or run.recipe.model)
    except ModelError as error:
        raise ModelError(f"prmu.backbone: {error}") from None


def _count(number: int) -> str:
    return f"{number / 1e9:.2f}B" if number >= 10**9 else f"{number / 1e6:.1f}M"
