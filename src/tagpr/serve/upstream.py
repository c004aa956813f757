"""`UpstreamEngine`: another server's completions (vLLM, SGLang, llama.cpp) for prompts that are built here.

The prompt goes as token ids, so that the other server's chat template plays no part; a server that takes only text gets
the very text of those tokens. That server batches by itself. Nothing is tried again here: the caller hears at once.
"""

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from tagpr.engine.models import load_tokenizer
from tagpr.engine.types import Completion
from tagpr.errors import RunError
from tagpr.serve.engines import CompletionRequest, GrowingText
from tagpr.serve.served_run import ServedRun, SystemName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "TAGPR_UPSTREAM_KEY"
"""Environment variable with the other server's key, if it wants one."""


class UpstreamEngine:
    """Completes every system's prompts at an OpenAI-compatible server that serves one checkpoint."""

    def __init__(self, run: ServedRun, url: str, model: str | None = None, seconds: float = 120.0) -> None:
        """model: what the server calls the checkpoint; its first where None. seconds: longest wait for a piece.

        Raises RunError for an address that is none.
        """
        from openai import OpenAI

        if not re.match(r"https?://[^\s/]", url):
            raise RunError(f"--upstream {url}: no address of a server; give http://HOST:PORT")
        self.run, self.url, self._name = run, url.rstrip("/"), model
        base = self.url if self.url.endswith("/v1") else f"{self.url}/v1"
        self.client = OpenAI(base_url=base, api_key=os.environ.get(KEY) or "none", timeout=seconds, max_retries=0)
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="tagpr-upstream")
        self._tokenizers: dict[SystemName, PreTrainedTokenizerBase] = {}
        self._as_text = False

    def tokenizer(self, system: SystemName) -> "PreTrainedTokenizerBase":
        """The tokenizer of the run's own checkpoint, which the other server is expected to serve."""
        if system not in self._tokenizers:
            self._tokenizers[system] = load_tokenizer(self.run.checkpoint(system))
        return self._tokenizers[system]

    def submit(self, request: CompletionRequest) -> "Future[list[Completion]]":
        """The completions; the future fails with RunError if the server does not give them."""
        return self._pool.submit(self._complete, request)

    def forget(self, user: str) -> None:
        """Nothing is kept here; what the other server keeps is its own matter."""

    def close(self) -> None:
        """Wait for what runs, then close the connections."""
        self._pool.shutdown(cancel_futures=True)
        self.client.close()

    def _complete(self, request: CompletionRequest) -> list[Completion]:
        import openai

        try:
            return self._streamed(request)
        except openai.BadRequestError:
            if self._as_text:
                raise RunError(f"{self.url}: refuses the prompt; serve the run's checkpoint there") from None
            self._as_text = True
            return self._complete(request)
        except openai.APITimeoutError:
            raise RunError(f"{self.url}: the model server does not answer in time; try again") from None
        except openai.APIStatusError as error:
            raise RunError(f"{self.url}: the model server answers with status {error.status_code}") from None
        except (ValueError, TypeError, IndexError):  # what the client's parsing of nonsense comes to
            raise RunError(f"{self.url}: answers, but not as a completions server does; is this its address?") from None
        except (openai.APIError, OSError):
            raise RunError(f"{self.url}: the model server cannot be reached or broke off; try again") from None

    def _streamed(self, request: CompletionRequest) -> list[Completion]:
        tokenizer, sampling = self.tokenizer(request.system), request.sampling
        if self._name is None:
            self._name = next(iter(self.client.models.list())).id
        prompt = list(request.prompt_ids)
        stream = self.client.completions.create(
            model=self._name,
            prompt=str(tokenizer.decode(prompt, skip_special_tokens=False)) if self._as_text else prompt,
            max_tokens=sampling.max_new_tokens,
            n=sampling.num_samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=list(request.stop) or None,
            stream=True,
            extra_body={"skip_special_tokens": False, "add_special_tokens": False},
        )
        before = GrowingText(tokenizer, request, ()).before
        found = [Completion([], None, False, text=before) for _ in range(sampling.num_samples)]
        for index in range(sampling.num_samples):
            if before and request.on_text is not None:
                request.on_text(index, before)
        ended = 0
        with stream:
            for chunk in stream:
                if request.cancelled.is_set():
                    break
                for choice in chunk.choices:
                    one = found[choice.index]
                    reason = str(choice.finish_reason or "")
                    ended += bool(reason)
                    found[choice.index] = replace(
                        one, text=one.text + choice.text, finished=one.finished or reason == "stop"
                    )
                    if choice.text and request.on_text is not None:
                        request.on_text(choice.index, choice.text)
        if ended < sampling.num_samples and not request.cancelled.is_set():
            raise RunError(f"{self.url}: the model server broke off in the middle of an answer; try again")
        return [
            replace(one, reply_tokens=len(tokenizer(one.text, add_special_tokens=False)["input_ids"])) for one in found
        ]
