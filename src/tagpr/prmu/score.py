"""`PRMU`: the trained reward model as one object: load, score, add, fit and remove users, save.

    prmu = PRMU.from_pretrained("runs/quickstart/prmu/model")
    rewards = prmu.score(user_ids, prompts, completions)  # token ids in, numbers in (0, 1) out

Training is in `tagpr.prmu.trainer`; judging whether the user embedding does anything in `tagpr.prmu.diagnose`.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tagpr.engine.models import fast_dtype
from tagpr.engine.padded_rows import padded_batches
from tagpr.errors import DataError, ModelError
from tagpr.files import read_json, replace_folder, write_json
from tagpr.prmu.fit_user import fit_row
from tagpr.prmu.model import PRMUConfig, PRMUModel, empty_model
from tagpr.prmu.packing import PreferenceGroup, encode_texts, group_pairs, pack
from tagpr.prmu.past_pairs import Past
from tagpr.stages import made_again

logger = logging.getLogger(__name__)

TOKENS, TOKENS_ON_CPU = 8192, 2048
"""Padded tokens in one forward pass; a CPU's cache holds the activations of few."""
WEIGHTS, CONFIG, USERS, HISTORIES = "model.safetensors", "prmu.json", "users.json", "histories.safetensors"


class PRMU:
    """A reward model that knows whose answer it is judging. `users` maps a user id to its row of E."""

    def __init__(
        self,
        model: PRMUModel,
        users: dict[str, int],
        on_unknown: str = "generic",
        histories: dict[str, Tensor] | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.model = model
        self.users = users
        self.on_unknown = on_unknown
        self.histories = histories or {}  # user id -> [n, d] frozen encodings of past items (profile-encoded)
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.token_budget = token_budget or (TOKENS_ON_CPU if on_cpu else TOKENS)
        self._rows_of_unknown: set[str] = set()
        rows = model.settings.users
        if sorted(users.values()) != list(range(rows)):
            raise ModelError(
                f"prmu: the user map names {len(users)} users, E has {rows} rows; "
                "users.json and model.safetensors are not of one checkpoint"
            )

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: str | None = None, dtype: str | torch.dtype = "auto") -> PRMU:
        """Load what `save` wrote. dtype auto: bfloat16 if the hardware has it (`fast_dtype`), else float32.

        Raises ModelError when a file is missing or the files do not fit together.
        """
        folder = Path(folder)
        for name in (WEIGHTS, CONFIG, USERS):
            if not (folder / name).is_file():
                raise ModelError(f"prmu {str(folder)!r}: no {name}; give the folder that `tagpr prmu` wrote")
        try:
            saved = read_json(folder / CONFIG)
            on_unknown = saved.pop("on_unknown", "generic")
            model = empty_model(PRMUConfig(**saved))
            users = {str(user): int(row) for user, row in read_json(folder / USERS).items()}
            state = load_file(folder / WEIGHTS)
            histories = load_file(folder / HISTORIES) if (folder / HISTORIES).is_file() else {}
        except (TypeError, ValueError, AttributeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [""])[0][:160]
            fix = made_again(folder, "train it again")
            raise ModelError(f"prmu {str(folder)!r}: is damaged ({reason}); {fix}") from None
        rows = len(state["users.offsets"]) if "users.offsets" in state else model.settings.users
        if rows != model.settings.users or len(users) != rows:
            raise ModelError(
                f"prmu {str(folder)!r}: {USERS} names {len(users)} users, {WEIGHTS} has {rows} rows; "
                "take both from one checkpoint"
            )
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"prmu {str(folder)!r}: {WEIGHTS} does not fit {CONFIG} ({reason})") from None
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        resolved = fast_dtype(device) if dtype == "auto" else getattr(torch, dtype) if isinstance(dtype, str) else dtype
        model.compute_dtype = resolved
        model.to(device)
        model.backbone.to(resolved)
        by_row = {row: user for user, row in users.items()}
        return cls(model, users, on_unknown, {by_row[int(row)]: items for row, items in histories.items()})

    def save(self, folder: Path | str) -> None:
        """Write weights (safetensors), shape, user map and histories; the folder appears whole or not at all."""
        folder = Path(folder)
        work = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        save_file(state, work / WEIGHTS, metadata={"format": "pt"})
        write_json(work / CONFIG, asdict(self.model.settings) | {"on_unknown": self.on_unknown})
        write_json(work / USERS, dict(sorted(self.users.items(), key=lambda item: item[1])))
        if self.histories:
            rows = {str(self.users[user]): items.contiguous() for user, items in self.histories.items()}
            save_file({row: rows[row] for row in sorted(rows, key=int)}, work / HISTORIES)
        replace_folder(work, folder)

    # -- scoring ------------------------------------------------------------------------------------------------------

    def score(
        self,
        user_ids: Sequence[str],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> list[float]:
        """R_PRMU = sigmoid(f) in (0, 1), eq. 3, of each completion (token ids; prompt = the one with the profile).

        Completions that share user and prompt share its forward pass, in whatever order they come. `histories` gives
        the past items (token ids) of users without a row, for on_unknown encode. Raises DataError for an unknown user
        under on_unknown error, or under encode without a history.
        """
        return torch.sigmoid(self.logits(user_ids, prompts, completions, histories)).tolist()

    @torch.no_grad()
    def logits(
        self,
        user_ids: Sequence[str],
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        histories: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> Tensor:
        """f of each completion, [N] in float32 on the CPU; as `score` otherwise."""
        if not len(user_ids) == len(prompts) == len(completions):
            raise DataError(
                f"prmu: {len(user_ids)} user ids, {len(prompts)} prompts, {len(completions)} completions; give as many"
            )
        members: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for index, (user, prompt) in enumerate(zip(user_ids, prompts, strict=True)):
            members.setdefault((str(user), tuple(prompt)), []).append(index)
        groups = [
            PreferenceGroup(
                user,
                prompt,
                tuple(tuple(completions[index]) for index in indices),
                (),
                "",
                self._history(user, histories),
            )
            for (user, prompt), indices in members.items()
        ]
        logits = self.group_logits(groups)
        result = torch.empty(len(user_ids))
        for indices, values in zip(members.values(), logits, strict=True):
            result[indices] = values
        return result

    @torch.no_grad()
    def group_logits(self, groups: Sequence[PreferenceGroup]) -> list[Tensor]:
        """f of each completion of each group, length-sorted into batches under the token budget."""
        config, device = self.model.settings, next(self.model.parameters()).device
        self.model.eval()
        if self.model.is_fixed_encoder:
            encode_texts(self.model, groups, self.token_budget)  # each prompt once, whoever's it is
        results: list[Tensor] = [torch.empty(0)] * len(groups)
        rows = [self.row(group.user_id, group.history is not None) for group in groups]
        for batch in padded_batches([group.tokens for group in groups], self.token_budget):
            packed = pack([groups[i] for i in batch], [rows[i] for i in batch], config.end_ids, config.pad_id)
            inputs = {key: value.to(device) for key, value in packed.items() if key not in ("chosen", "rejected")}
            values = self.model(**inputs).logits.float().cpu()
            for index, part in zip(batch, values.split([len(groups[i].completions) for i in batch]), strict=True):
                results[index] = part
        return results

    def row(self, user_id: str, has_history: bool = False) -> int:
        """The user's row of E; -1 (generic, o_u = 0) for an unknown user if that is allowed."""
        row = self.users.get(user_id)
        if row is not None:
            return row
        if self.on_unknown == "error":
            raise DataError(
                f"prmu: user {user_id!r} has no row in the user map; add the user, or set on_unknown to generic"
            )
        if self.on_unknown == "encode" and not has_history:
            raise DataError(f"prmu: user {user_id!r} has no row and no history was given; on_unknown encode needs one")
        if user_id not in self._rows_of_unknown:
            self._rows_of_unknown.add(user_id)
            logger.debug("prmu: user %r is unknown and scored as the generic user", user_id)
        return -1

    # -- users --------------------------------------------------------------------------------------------------------

    def add_user(self, user_id: str, history: Sequence[Sequence[int]] = ()) -> None:
        """Give a user a row, o_u = 0 (scored as the generic user until fitted); no other user's score changes.

        `history` (token ids of past items) is what profile-encoded reads. Raises DataError for a user who has a row.
        """
        if self.model.users is None:
            raise DataError("prmu: this model was trained with user_option none; it has no users")
        if user_id in self.users:
            raise DataError(f"prmu: user {user_id!r} already has a row; remove the user first, or fit it")
        offsets = self.model.users.offsets
        self._set_rows(torch.cat([offsets.data, offsets.data.new_zeros(1, offsets.shape[1])]))
        self.users[user_id] = len(offsets)
        if self.model.history is not None:
            self.histories[user_id] = encode_items(self.model, history)

    def remove_user(self, user_id: str) -> None:
        """Forget a user: row, name and encoded history. No other user's score changes."""
        if user_id not in self.users or self.model.users is None:
            raise DataError(f"prmu: user {user_id!r} has no row to remove")
        gone = self.users.pop(user_id)
        offsets = self.model.users.offsets
        self._set_rows(torch.cat([offsets.data[:gone], offsets.data[gone + 1 :]]))
        self.users = {user: row - (row > gone) for user, row in self.users.items()}
        self.histories.pop(user_id, None)

    def fit_user(
        self,
        user_id: str,
        history: Past,
        starts: int = 16,
        steps: int = 10,
        learning_rate: float = 0.02,
    ) -> float:
        """Fit only this user's row (added if new) on the pairs of the user's own past; returns the loss reached.

        `history`: `past_of(...)`, or `Past(pairs)` around pairs of rollouts. Raises DataError if there is no pair.
        """
        if not history.pairs:
            raise DataError(f"prmu: no pair to fit user {user_id!r} on; make at least one from the user's past")
        if user_id not in self.users:
            self.add_user(user_id, history.items)
        encoded = self._history(user_id, None)
        groups = [
            PreferenceGroup(user_id, g.prompt_ids, g.completions, g.preferences, g.example_id, encoded)
            for g in group_pairs(history.pairs)
        ]
        return fit_row(self.model, groups, self.users[user_id], starts, steps, learning_rate)

    def _set_rows(self, rows: Tensor) -> None:
        assert self.model.users is not None
        self.model.users.offsets = torch.nn.Parameter(rows)
        self.model.settings.users = len(rows)

    def _history(self, user_id: str, histories: Mapping[str, Sequence[Sequence[int]]] | None) -> Tensor | None:
        if self.model.history is None:
            return None
        if user_id in self.histories:
            return self.histories[user_id]
        if histories is not None and user_id in histories:
            return encode_items(self.model, histories[user_id])
        return None


@torch.no_grad()
def encode_items(model: PRMUModel, items: Sequence[Sequence[int]]) -> Tensor:
    """Frozen encodings [n, d] of past items given as token ids: the mean of each item's input embeddings.

    The embedding table is never trained, so an encoding made at any time, before or after training, is the same.
    """
    table = model.backbone.get_input_embeddings()
    rows = [table(torch.tensor(list(item), device=table.weight.device)).float().mean(0) for item in items if len(item)]
    return torch.stack(rows).cpu() if rows else torch.empty(0, table.weight.shape[1])
