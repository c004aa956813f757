"""`report_to`: a stage's metrics to TensorBoard, Trackio or Weights & Biases, through accelerate's trackers."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tagpr.errors import RecipeError


class Trackers:
    """Opened trackers; `log` one step's metrics, `close` at the end. With no names it does nothing."""

    def __init__(self, names: Sequence[str], run: str, folder: Path) -> None:
        """`run` names the run, in the project "tagpr" if there are projects; TensorBoard's files go to `folder/RUN`.

        Raises RecipeError for a tracker that is not installed.
        """
        for name in names:
            if importlib.util.find_spec(name) is None:
                raise RecipeError(f"report_to: {name} is not installed; pip install {name}, or leave it out")
        self.trackers = []
        if not names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # the trackers ask it which process is the main one
        for name in names:
            kind: Any = LOGGER_TYPE_TO_CLASS[name]
            tracker = kind(run, logging_dir=folder) if kind.requires_logging_directory else kind("tagpr", name=run)
            tracker.start()
            self.trackers.append(tracker)

    def log(self, figures: Mapping[str, float]) -> None:
        """Send one step's metrics."""
        for tracker in self.trackers:
            tracker.log({key: value for key, value in figures.items() if key != "step"}, step=int(figures["step"]))

    def close(self) -> None:
        """Flush and end."""
        for tracker in self.trackers:
            tracker.finish()
