"""One decoding step of every row of the caches at fixed shapes, recorded once on a GPU and replayed.

A step of a small model launches several hundred kernels, and launching them takes the host far longer than running them
takes the GPU. A recorded graph (`torch.cuda.CUDAGraph`) launches them all at once. Its shapes cannot change: finished
rows are computed along with the others and ignored, and attention reads the caches to their ends behind a mask.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tagpr.engine.decoding import Caches, StepLayout
from tagpr.engine.group_attention import hiding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


class FixedStepLayout(StepLayout):
    """A step of all rows whose lengths lie in buffers; `update` makes the masks that follow from them."""

    def __init__(self, caches: Caches, counts: Tensor, prompt_lengths: Tensor) -> None:
        """counts (slots * samples,): own tokens already cached; prompt_lengths (slots,). Both are read at `update`."""
        self.caches, self.counts, self.prompt_lengths = caches, counts, prompt_lengths
        self.rows, self.all_rows = torch.arange(len(counts), device=counts.device), True
        self.p, self.t = caches.prompt_length, caches.steps
        self.update()

    def update(self) -> None:
        """Hide what lies behind the lengths in the buffers. Waits for nothing, so that it can be recorded."""
        device = self.counts.device
        self.prompt_bias = hiding(torch.arange(self.p, device=device)[None] >= self.prompt_lengths[:, None])
        self.own_bias = hiding(torch.arange(self.t, device=device)[None] > self.counts[:, None])


class GraphedStep:
    """The logits of the next token of every row; on a GPU from a recorded graph, elsewhere computed as usual."""

    def __init__(self, model: PreTrainedModel, caches: Caches, device: torch.device) -> None:
        """Record the step. The caches' layers must be there (a prefill has run), and no layer may wait for the host."""
        rows = caches.slots * caches.samples
        self.model = model
        self.ids = torch.zeros(1, rows, dtype=torch.long, device=device)
        self.positions = torch.zeros(1, rows, dtype=torch.long, device=device)
        # rows in no use still write a key somewhere: behind the last token, until a prompt takes their place
        self.counts = torch.full((rows,), caches.steps - 1, dtype=torch.long, device=device)
        self.prompt_lengths = torch.ones(caches.slots, dtype=torch.long, device=device)
        self.samples = caches.samples
        self.layout = FixedStepLayout(caches, self.counts, self.prompt_lengths)
        # any mask of four dimensions is passed on as it is; making one would look at the positions on the host
        self.no_mask = torch.zeros(1, 1, 1, 1, device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._record()

    def __call__(self, ids: Tensor, counts: Tensor, prompt_lengths: Tensor) -> Tensor:
        """Logits (rows, V) after token `ids` (rows,) of each row; counts (rows,), prompt_lengths (slots,).

        The rows' keys are written at `counts`; valid until the next call.
        """
        self.ids.copy_(ids[None])
        self.counts.copy_(counts.clamp(0, self.layout.t - 1))
        self.prompt_lengths.copy_(prompt_lengths)
        if self.graph is None:
            return self._compute()
        self.graph.replay()
        return self.logits

    def _compute(self) -> Tensor:
        self.layout.update()
        torch.add(self.prompt_lengths.repeat_interleave(self.samples), self.counts, out=self.positions[0])
        return self.model(
            input_ids=self.ids,
            position_ids=self.positions,
            attention_mask=self.no_mask,
            use_cache=False,
            group_attention=self.layout,
            logits_to_keep=0,
        ).logits[0]

    def _record(self) -> None:
        # libraries set themselves up at their first call, which must not be recorded
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self._compute()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        # other threads may go on using the GPU meanwhile: NCCL's watchdog does
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.logits = self._compute()


def graphed_step(model: PreTrainedModel, caches: Caches, device: torch.device) -> GraphedStep | None:
    """A recorded step, or None with one logged line if the model's layers cannot be recorded."""
    try:
        return GraphedStep(model, caches, device)
    except RuntimeError as error:
        _not_recorded(str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__)
        return None


@cache
def _not_recorded(reason: str) -> None:
    """Say so once: RL generates at every step."""
    logger.warning("decoding steps are not recorded (%s): each is launched kernel by kernel", reason)
