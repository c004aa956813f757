"""A checkpoint as a `TextModel`, in the engine a setting names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tagpr.engine.types import TextModel

LocalEngine = Literal["transformers", "vllm"]
"""What runs a checkpoint here: this package's generation over transformers, or vLLM if it is installed."""


def load_text_model(folder: Path, engine: LocalEngine = "transformers", batch_size: int = 96) -> TextModel:
    """The checkpoint in `folder`. `batch_size`: completions decoded side by side (vLLM decides that by itself).

    Raises ModelError if the checkpoint does not load or vLLM is not installed.
    """
    if engine == "vllm":
        from tagpr.engine.vllm_model import VLLMModel

        return VLLMModel.load(folder)
    from tagpr.engine.transformers_model import TransformersModel

    return TransformersModel.load(folder, batch_size)
