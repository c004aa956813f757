"""Sizes that suit the device: they change how fast figures are made, not what they are (but for rounding)."""

import torch
import transformers

from results_file import machine

TOKENS_PER_FORWARD = 4096 if torch.cuda.is_available() else 1024
"""Most tokens of a training pass."""
SIDE_BY_SIDE = 330 if torch.cuda.is_available() else 60
"""Answers generated side by side."""


def trained_on() -> dict[str, str]:
    """The machine that trained: a results file can hold the figures of several."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {"machine": machine(), "gpu": gpu, "torch": torch.__version__, "transformers": transformers.__version__}
