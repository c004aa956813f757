"""TRL's RewardTrainer on packed prompts (eq. 2): a learning rate for each part of a PRMU, a stop at the first NaN.

What is trained and on which pairs is `tagpr.prmu.trainer`'s.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from trl import RewardTrainer

from tagpr.errors import RunError
from tagpr.prmu.model import PRMUModel
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.users import RowAdamW


class BradleyTerryTrainer(RewardTrainer):
    """TRL's RewardTrainer on packed groups, with a learning rate for each part and a stop at the first NaN."""

    def __init__(self, *args: Any, rates: PRMUSettings, **kwargs: Any) -> None:
        self.rates = rates
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset  # already token ids

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints are only for resuming."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        names = inputs.pop("names")
        result = super().compute_loss(model, inputs, *args, **kwargs)
        loss = result[0] if isinstance(result, tuple) else result
        if not math.isfinite(loss.item()):
            raise RunError(
                f"prmu: the loss became {loss.item()} at step {self.state.global_step + 1} "
                f"(batch: {', '.join(names)[:300]}); the last good checkpoint is kept: lower prmu.learning_rate"
            )
        return result

    def create_optimizer(self, *_: Any, **__: Any) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = RowAdamW(_parameter_groups(self.model, self.rates), weight_decay=0.0)
        return self.optimizer

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint without the frozen weights is what `_save` wrote: nothing to warn of."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Only what is trained: everything else comes from the backbone again."""
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        trained = {name: p.detach().cpu().contiguous() for name, p in self.model.named_parameters() if p.requires_grad}
        save_file(trained, Path(output_dir) / "model.safetensors")


def _parameter_groups(model: PRMUModel, rates: PRMUSettings) -> list[dict[str, Any]]:
    backbone = [p for p in model.backbone.parameters() if p.requires_grad]
    fresh = list(model.head.parameters()) + (list(model.history.parameters()) if model.history is not None else [])
    groups = [
        {"params": backbone, "lr": rates.learning_rate, "betas": (0.9, 0.95)},
        {"params": fresh, "lr": rates.head_learning_rate, "betas": (0.9, 0.95)},
    ]
    if model.users is not None:
        # beta2 .99: a row used for the first time late in training then moves by lr, not by a multiple of it.
        shared = {"lr": rates.user_learning_rate, "betas": (0.9, 0.99)}
        groups.append({"params": [model.users.generic], **shared})
        groups.append({"params": [model.users.offsets], "rows": True, **shared})
    return [group for group in groups if group["params"]]
