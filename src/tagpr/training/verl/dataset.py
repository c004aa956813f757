"""The rows of a stage for verl, in the order of the local loop: `StepDataset` is named by `data.custom_cls`.

verl's trainer loads this module first, so it also registers our advantages.
"""

from pathlib import Path

from verl.utils.dataset.rl_dataset import RLHFDataset  # pyright: ignore[reportMissingImports]  # verl's environment

import tagpr.training.verl.advantages  # noqa: F401  # registers `tagpr`
from tagpr.training.rollout import rows_of_step


class StepDataset(RLHFDataset):
    """Training rows repeated and ordered as `rows_of_step` has them, for a sampler that does not shuffle."""

    @property
    def _trains(self) -> bool:
        files = self.original_data_files
        return [Path(str(file)) for file in files] == [Path(str(self.config.train_files))]

    def __len__(self) -> int:
        """Prompts of all steps; of held-out rows as many as there are."""
        if not self._trains:
            return super().__len__()
        return self.config.tagpr.steps * self.config.tagpr.prompts_per_step

    def __getitem__(self, item: int) -> dict[str, object]:
        """The row of the `item`-th prompt of the stage."""
        if self._trains:
            item = rows_of_step(item, super().__len__(), 1, self.config.tagpr.seed)[0]
        return super().__getitem__(item)
