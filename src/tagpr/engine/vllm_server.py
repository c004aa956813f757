"""`VLLMServer`: a checkpoint behind `vllm serve` as a `TextModel` in token ids, in chunks that survive a kill.

For rollouts of a large policy, which a server on other GPUs draws many times faster than one process here. A draw
depends on prompt, sample number and seed, as everywhere in this package.

    vllm serve RUN/sft/model --logprobs-mode processed_logprobs
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tagpr.engine.models import load_tokenizer
from tagpr.engine.sampling import seeds_of
from tagpr.engine.text import end_token_ids
from tagpr.engine.transformers_model import completions, prompt_ids
from tagpr.engine.types import Completion, Continuation, Prompts, Sampling
from tagpr.errors import ModelError, RunError
from tagpr.files import read_jsonl, weights_key, write_jsonl
from tagpr.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK = 256
"""Prompts between two saves; as many requests are open at once, which the server batches as it likes."""
_PATIENCE_S = 3600
"""Longest wait for one prompt's completions."""


class VLLMServer:
    """Completes prompts at `address`; what is answered is kept in the folder `kept`, and not asked for again."""

    def __init__(
        self, address: str, tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int], kept: Path, chunk: int = CHUNK
    ) -> None:
        """Raises ModelError if no vLLM server answers at `address`."""
        self.address, self.tokenizer, self.end_ids = address.rstrip("/"), tokenizer, list(end_ids)
        self.kept, self.chunk = kept, chunk
        self.model, self.root = self._served()

    @classmethod
    def of(cls, address: str, policy: Path, kept: Path) -> VLLMServer:
        """The server of the checkpoint in `policy`. Raises ModelError if it serves other weights, as far as its folder
        can be seen from here.
        """
        tokenizer = load_tokenizer(policy)
        server = cls(address, tokenizer, end_token_ids(tokenizer, folder=policy), kept)
        folder = Path(server.root)
        if folder.is_dir() and weights_key(folder) != weights_key(policy):
            raise ModelError(f"{address} serves {folder}, which has other weights than {policy}; serve that folder")
        return server

    def generate(
        self, prompts: Prompts, sampling: Sampling, progress: Progress | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_samples` completions of each prompt, without log-probs.

        Raises RunError if the server does not answer; the same call then goes on from the last chunk.
        """
        report, ids = progress or silent, prompt_ids(self.tokenizer, prompts)
        seeds, drawn = seeds_of(ids, sampling.seed), list[list[Continuation]]()
        for start in range(0, len(ids), self.chunk):
            stop = min(start + self.chunk, len(ids))
            drawn += self._chunk(ids[start:stop], seeds[start:stop], sampling)
            report(stop, len(ids), "completions")
        return completions(self.tokenizer, self.end_ids, ids, drawn)

    def _chunk(self, ids: list[list[int]], seeds: list[int], sampling: Sampling) -> list[list[Continuation]]:
        digest = hashlib.sha256(repr((ids, seeds, sampling)).encode()).hexdigest()[:24]
        path = self.kept / f"{digest}.jsonl"
        if not path.is_file():
            with ThreadPoolExecutor(len(ids)) as pool:
                rows = list(pool.map(lambda one: self._complete(one, sampling), zip(ids, seeds, strict=True)))
            write_jsonl(path, ({"samples": row} for row in rows))
        return [
            [Continuation(one["token_ids"], None, one["finished"]) for one in row["samples"]]
            for row in read_jsonl(path)
        ]

    def _complete(self, asked: tuple[list[int], int], sampling: Sampling) -> list[dict[str, object]]:
        """asked: a prompt and its seed."""
        ids, seed = asked
        drawn = 1 if sampling.temperature == 0 else sampling.num_samples
        body = {
            "model": self.model,
            "prompt": ids,
            "n": drawn,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": 0,
            "seed": seed,
            "stop_token_ids": self.end_ids,
            "return_token_ids": True,
        }
        choices = sorted(self._call("/v1/completions", body)["choices"], key=lambda choice: choice["index"])
        rows: list[dict[str, object]] = [
            {"token_ids": choice["token_ids"], "finished": choice["finish_reason"] == "stop"} for choice in choices
        ]
        return rows if drawn == sampling.num_samples else rows * sampling.num_samples

    def _served(self) -> tuple[str, str]:
        """(the model's name, what it was loaded from)."""
        try:
            (model,) = self._call("/v1/models")["data"]
            return model["id"], model["root"]
        except (RunError, KeyError, TypeError, ValueError):
            raise ModelError(f"no vLLM server at {self.address}; start one: vllm serve FOLDER") from None

    def _call(self, route: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + route, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            reason = " ".join(error.read().decode(errors="replace").split())[:200]
            raise RunError(f"{self.address}: {error.code} {reason}") from None
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self.address}: {error}; start the server again and rerun: what it answered is kept"
            ) from None
