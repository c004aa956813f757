"""Training a PRMU: Bradley-Terry (eq. 2) over backbone, head and E jointly, on transformers' Trainer.

One row of a batch is one prompt with all its completions (`tagpr.engine.padded_rows`); the loss is
`bradley_terry_loss`, a line of `tagpr.prmu.loss`. What is trained is held in float32 even if the forward pass runs
in bfloat16: at these learning rates bfloat16 weights would swallow most updates. A killed training goes on from its
last checkpoint and, on CPU, ends with the same bytes.
"""

from __future__ import annotations

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments

from tagpr import processes
from tagpr.engine.models import load_tokenizer
from tagpr.engine.trainer_checkpoints import MarkComplete, last_checkpoint
from tagpr.engine.trainer_setup import LossProgress, common_arguments, loss_note
from tagpr.errors import DataError, RunError
from tagpr.files import write_jsonl
from tagpr.prmu.data import Pair
from tagpr.prmu.initialise import merge_lora, new_prmu, standardise_states
from tagpr.prmu.loss import bradley_terry_loss
from tagpr.prmu.metrics import PRMUMetrics
from tagpr.prmu.model import PRMUConfig, PRMUModel
from tagpr.prmu.optimizer import RowAdamW, parameter_groups
from tagpr.prmu.packing import PreferenceGroup, group_pairs, pack
from tagpr.prmu.score import PRMU, encode_items
from tagpr.prmu.settings import PRMUSettings
from tagpr.progress import StageContext

logger = logging.getLogger(__name__)


def train_prmu(
    backbone: Path,
    pairs: Sequence[Pair],
    settings: PRMUSettings,
    context: StageContext,
    histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> PRMUMetrics:
    """Train on the pairs of split `train`; writes out/model (loads with `PRMU.from_pretrained`) and out/log.jsonl
    (`out`: the context's folder).

    Checkpoints go to out/checkpoints; called again after a kill, training continues from the last whole one.
    `histories` (user id -> token ids of past items) is needed by profile-encoded. Under torchrun every process trains
    its share and the first writes. Returns counts and the last training metrics.

    Raises DataError for an empty pair set, RunError when the loss stops being finite (the last checkpoint stays).
    """
    out, tokenizer = context.out, tokenizer or load_tokenizer(backbone)
    kept, overlong = _fitting([pair for pair in pairs if pair.split == "train"], settings.max_length)
    if not kept:
        raise DataError(
            f"prmu: no pair to train on ({overlong} are longer than prmu.max_length = {settings.max_length} tokens); "
            "make more rollouts or raise prmu.max_length"
        )
    users = {user: row for row, user in enumerate(sorted({pair.user_id for pair in kept}))}
    if settings.user_option == "none":
        users = {}
    model = new_prmu(backbone, tokenizer, settings, len(users), context.seed)
    encoded = _encode(model, users, histories, settings)
    groups = [
        PreferenceGroup(g.user_id, g.prompt_ids, g.completions, g.preferences, g.example_id, encoded.get(g.user_id))
        for g in group_pairs(kept)
    ]
    if model.is_fixed_encoder:
        standardise_states(model, groups)
    trainer = _trainer(model, groups, users, settings, context)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if settings.epochs else 0
    checkpoint = last_checkpoint(out / "checkpoints")
    if settings.epochs:
        if checkpoint:
            logger.info("prmu: continuing from %s", checkpoint)
        trainer.train(resume_from_checkpoint=checkpoint)
    log = [_without_times(row) for row in trainer.state.log_history if "loss" in row]
    model = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.is_world_process_zero():
        merge_lora(model)
        PRMU(model.cpu(), users, settings.on_unknown, encoded).save(out / "model")
        write_jsonl(out / "log.jsonl", log)
    trainer.accelerator.wait_for_everyone()
    return PRMUMetrics(
        pairs=len(kept),
        dropped_overlong=overlong,
        prompts=len(groups),
        users=len(users),
        trained_parameters=trained,
        trained_tokens=round(settings.epochs * sum(group.tokens for group in groups)),
        steps=trainer.state.global_step,
        processes=trainer.accelerator.num_processes,
        loss=log[-1]["loss"] if log else None,
        accuracy=log[-1].get("accuracy") if log else None,
    )


def _fitting(pairs: Sequence[Pair], max_length: int) -> tuple[list[Pair], int]:
    def length(pair: Pair) -> int:
        return len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) + 1

    kept = [pair for pair in pairs if length(pair) <= max_length]
    if len(kept) < len(pairs):
        logger.warning("prmu: %d of %d pairs are over max_length and dropped", len(pairs) - len(kept), len(pairs))
    return kept, len(pairs) - len(kept)


def _encode(
    model: PRMUModel,
    users: Mapping[str, int],
    histories: Mapping[str, Sequence[Sequence[int]]] | None,
    settings: PRMUSettings,
) -> dict[str, Tensor]:
    """Frozen encodings of the training users' histories, and their mean and scale into the encoder's buffers."""
    if model.history is None:
        return {}
    if not histories or not any(histories.get(user) for user in users):
        raise DataError("prmu: user_option profile-encoded needs the users' histories; pass histories=")
    encoded = {user: encode_items(model, histories.get(user, ())) for user in users}
    items = torch.cat(list(encoded.values()))
    model.history.mean.copy_(items.mean(0))
    model.history.scale.copy_((items - items.mean(0)).pow(2).mean().sqrt().clamp(min=1e-6))
    return encoded


class BradleyTerryTrainer(Trainer):
    """transformers' Trainer with eq. 2 as its loss, a learning rate for each part of a PRMU, and a stop at a NaN."""

    def __init__(self, model: PRMUModel, args: TrainingArguments, rates: PRMUSettings, **kwargs: Any) -> None:
        self.rates, self.prmu = rates, model
        self.measured: dict[str, list[tuple[float, float]]] = defaultdict(list)  # since the last log: (sum, number)
        super().__init__(model=model, args=args, **kwargs)
        self.model_accepts_loss_kwargs = True  # `compute_loss` is told the pairs of the whole step and divides itself

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The share of one micro batch (what `_Collator` makes) in eq. 2 over all pairs of the optimizer step.

        So neither the size of micro batches nor the number of processes changes the objective. Raises RunError when the
        loss is not finite.
        """
        names, pairs = inputs.pop("names"), inputs.pop("labels").numel()
        logits: Tensor = model(**inputs).logits  # [2P]: f(x+), then f(x-)
        chosen_P, rejected_P = logits.chunk(2)
        assert num_items_in_batch is not None
        share = pairs * self.accelerator.num_processes / num_items_in_batch  # DDP averages over processes
        loss = bradley_terry_loss(chosen_P, rejected_P) * share
        with torch.no_grad():
            self._measure("mean_reward", logits)
            self._measure("accuracy", (chosen_P > rejected_P).float())
            self._measure("margin", chosen_P - rejected_P)
        if not math.isfinite(loss.item()):
            raise RunError(
                f"prmu: the loss became {loss.item()} at step {self.state.global_step + 1} "
                f"(batch: {', '.join(names)[:300]}); the last good checkpoint is kept: lower prmu.learning_rate"
            )
        return loss

    def _measure(self, name: str, values: Tensor) -> None:
        """Note the sum of `values` and their number in this forward pass, of all processes."""
        own = torch.tensor([[values.sum().item(), values.numel()]], device=values.device)
        everyone = self.accelerator.gather(own)
        assert isinstance(everyone, Tensor)
        total, count = everyone.sum(0).tolist()
        self.measured[name].append((total, count))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of what was measured since the last log."""
        for name, noted in self.measured.items():
            totals, counts = zip(*noted, strict=True)
            logs[name] = sum(totals) / sum(counts)
        self.measured.clear()
        super().log(logs, start_time)

    def create_optimizer(self, *_: object, **__: object) -> torch.optim.Optimizer:
        """AdamW that moves only the rows of E a step used."""
        if self.optimizer is None:
            self.optimizer = RowAdamW(parameter_groups(self.prmu, self.rates), weight_decay=0.0)
        return self.optimizer

    def _issue_warnings_after_load(self, load_result: object) -> None:
        """A checkpoint without the frozen weights is what `_save` wrote: nothing to warn of."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Only what is trained: everything else comes from the backbone again."""
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        trained = {name: p.detach().cpu().contiguous() for name, p in self.prmu.named_parameters() if p.requires_grad}
        save_file(trained, Path(output_dir) / "model.safetensors")


def _trainer(
    model: PRMUModel,
    groups: Sequence[PreferenceGroup],
    users: Mapping[str, int],
    settings: PRMUSettings,
    context: StageContext,
) -> BradleyTerryTrainer:
    for module in model.modules():  # both sides of a pair are judged by one and the same network
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    rows, passes = _passes(settings)
    args = TrainingArguments(
        **common_arguments(context),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=passes,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=min(10, max(1, len(groups) // (20 * settings.batch_size))),
        max_grad_norm=1.0,
        bf16=False,  # the model's own autocast; see PRMUModel.compute_dtype
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        dataloader_pin_memory=False,
    )
    trainer = BradleyTerryTrainer(
        model,
        args,
        settings,
        train_dataset=Dataset.from_dict({"group": list(range(len(groups)))}),
        data_collator=_Collator(groups, users, model.settings),
        callbacks=[MarkComplete(), LossProgress(context.progress, _note)],
    )
    trainer.remove_callback(PrinterCallback)  # metrics go to the log file and to `progress`, not to stdout
    return trainer


def _passes(settings: PRMUSettings) -> tuple[int, int]:
    """(prompts in a forward pass of one process, its passes in one optimizer step). Raises RunError if the batch cannot
    be divided among the processes.
    """
    share, rest = divmod(settings.batch_size, processes.count())
    if rest or not share:
        raise RunError(
            f"prmu.batch_size={settings.batch_size} cannot be divided among {processes.count()} processes; set it to a "
            "multiple of their number"
        )
    most = min(settings.micro_batch_size, share)
    rows = next(rows for rows in range(most, 0, -1) if share % rows == 0)
    return rows, share // rows


class _Collator:
    """Rows of the dataset are only numbers of groups; the groups themselves stay Python objects."""

    def __init__(self, groups: Sequence[PreferenceGroup], users: Mapping[str, int], config: PRMUConfig) -> None:
        self.groups, self.users, self.config = groups, users, config

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, Any]:
        groups = [self.groups[row["group"]] for row in rows]
        users = [self.users.get(group.user_id, -1) for group in groups]
        batch: dict[str, Any] = pack(groups, users, self.config.end_ids, self.config.pad_id)
        # only tells the Trainer how many pairs there are
        batch["labels"] = torch.zeros(sum(len(group.preferences) for group in groups), dtype=torch.long)
        batch["names"] = [f"{group.example_id} of {group.user_id}" for group in groups]
        return batch


def _without_times(row: Mapping[str, object]) -> dict[str, float]:
    names = ("step", "epoch", "loss", "accuracy", "margin", "mean_reward", "learning_rate", "grad_norm")
    return json.loads(json.dumps({name: row[name] for name in names if name in row}))


def _note(logs: Mapping[str, float]) -> str:
    return f"{loss_note(logs)}, pairs right {logs.get('accuracy', float('nan')):.0%}"
