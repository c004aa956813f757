"""PPlug (Liu et al., arXiv 2409.11901): a user's whole history as one vector that a frozen language model reads.

As the source has it: a frozen encoder (BGE-base by default) for past items, which it reads without their labels; a
trained copy of it for the question; attention of the question over the items; a trained projector; a trained
instruction vector; next-token loss on the answer alone; learning rate 1e-4, weight decay 1e-4, warm-up 5%, batch 64, 2
epochs, at most 512 items, 4 beams. The mathematics is in `pplug_model`.

Left open there, chosen here:
- x_u is normalised like h_i, being made by a copy of the same encoder, CLS and normalisation included.
- The projector's hidden width is the language model's. P_u and I are brought to the length of its mean token embedding.
- x is the prompt without history that the other systems get; the past items come in as P_u only.
- History dropout leaves an item out with probability 0.2, and never all of them. No history at all: P_u = 0.
- One plug-in for all tasks of a run, as the table's `sft` row has one model.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tagpr.profiles.retrieval import query_of, recency_order
from tagpr.systems.backbone import Backbone
from tagpr.systems.fit_settings import PPlugOptions
from tagpr.systems.protocol import Answer, System
from tagpr.tasks.types import Example, Task

if TYPE_CHECKING:
    from torch import Tensor

    from tagpr.systems.encoders import TextEncoder
    from tagpr.systems.pplug_model import PersonaPlug, PlugItem


def history_texts(task: Task, example: Example, most: int) -> list[str]:
    """The latest `most` past items as the encoder reads them: input fields only, no labels."""
    items = [example.profile[i] for i in recency_order(example.profile)[:most]]
    return [" ".join(item.fields[name] for name in task.input_fields if name in item.fields) for item in items]


class PPlug(System[PPlugOptions]):
    """Trains the plug-in, never the language model."""

    Options = PPlugOptions

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen model that answers."""
        return Backbone(self.context, self.cost)

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The frozen encoder of past entries."""
        from tagpr.systems.encoders import TextEncoder

        options = self.options
        device = self.backbone.model.device
        return TextEncoder(options.encoder, options.encoder_tokens, "systems: pplug: encoder", device).eval()

    def _plug(self, items: "Sequence[PlugItem]") -> "PersonaPlug":
        from tagpr.systems.pplug_model import PersonaPlug

        self.backbone.model.requires_grad_(False)
        return PersonaPlug(self.backbone.model, self.encoder, items, self.options.history_dropout, self.context.seed)

    def _items(self, examples: Sequence[Example], with_answers: bool) -> "list[PlugItem]":
        from torch.nn.functional import normalize

        from tagpr.engine.text import learned_ids
        from tagpr.systems.pplug_model import PlugItem

        tasks, tokenizer = self.context.tasks, self.context.tokenizer
        prompts = self.context.prompts(False)
        texts = [history_texts(tasks[e.task], e, self.options.items) for e in examples]
        distinct = sorted({text for own in texts for text in own})
        vectors = dict(zip(distinct, normalize(self.encoder.encode(distinct), dim=-1), strict=True))
        items = []
        for example, own in zip(examples, texts, strict=True):
            task = tasks[example.task]
            answer = tuple(learned_ids(tokenizer, example.target or "")) if with_answers else ()
            history = _stack([vectors[text] for text in own], self.encoder.width)
            ids = tuple(prompts.ids(task, example, with_profile=False))
            items.append(PlugItem(query_of(task, example), history, ids, answer))
        return items

    def fit(self, train: Sequence[Example]) -> None:
        """Fit the plug-in on the training examples' targets."""
        from tagpr.systems.fitting import fit_module, load_trained

        def make(work: Path) -> None:
            items = self._items(train, with_answers=True)
            plug = self._plug(items)
            self.cost.trained_parameters += fit_module(plug, len(items), self.options.fit, self.context.work(work))
            tokens = sum(2 + len(item.prompt_ids) + len(item.answer_ids) for item in items)
            self.cost.trained_tokens += round(tokens * self.options.fit.epochs)

        folder = self.once("plug", make)
        self.plug = self._plug([])
        load_trained(self.plug, folder / "trained.safetensors")

    def predict(self, examples: Sequence[Example]) -> list[Answer]:
        """Answers by beam search from [I; P_u; Emb(x)]."""
        from tagpr.engine.text import decode, end_token_ids

        items = self._items(examples, with_answers=False)
        tokenizer = self.context.tokenizer
        eos = end_token_ids(tokenizer, self.backbone.model)
        pad = cast(int, tokenizer.pad_token_id)  # `load_tokenizer` sees to it
        order = sorted(range(len(items)), key=lambda i: (-len(items[i].prompt_ids), i))
        size = max(1, self.context.decoding.generation_batch_size // self.options.beams)
        answers = [Answer("")] * len(items)
        for start in range(0, len(order), size):
            part = order[start : start + size]
            limit = self.context.decoding.answer_tokens
            rows = self.plug.write([items[i] for i in part], limit, self.options.beams, eos, pad)
            for i, row in zip(part, rows, strict=True):
                answers[i] = Answer(decode(tokenizer, row, eos), len(row))
                self.cost.prompt_tokens += 2 + len(items[i].prompt_ids)
                self.cost.completion_tokens += len(row)
            self.context.progress(start + len(part), len(order), "answers")
        return answers


def _stack(rows: "Sequence[Tensor]", width: int) -> "Tensor":
    import torch

    return torch.stack(list(rows)) if rows else torch.empty(0, width)
