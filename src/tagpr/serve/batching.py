"""`EmbeddedEngine`: the run's checkpoints in this process; concurrent requests go into one generate call.

One thread owns all models, so that two of them never compete for the processors. While it generates, requests wait; the
next call takes all that wait for the same system with the same sampling. Equal requests are drawn once: a seed decides
an answer whoever else is asking.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from typing import TYPE_CHECKING

from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Completion
from tagpr.errors import RunError
from tagpr.serve.engines import CompletionRequest, GrowingText, before_stop
from tagpr.serve.served_run import ServedRun, SystemName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""How long an idle engine waits for others after a first request: those sent at the same moment then share a call."""

Waiting = tuple[CompletionRequest, "Future[list[Completion]]"]


class EmbeddedEngine:
    """Completes prompts with the run's checkpoints, each loaded when first asked for."""

    def __init__(self, run: ServedRun, observe: Callable[[int], None] = lambda requests: None) -> None:
        """`observe` is told how many requests went into each generate call."""
        self.run, self.observe = run, observe
        self._models: dict[SystemName, TransformersModel] = {}
        self._loading = threading.Lock()
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def tokenizer(self, system: SystemName) -> "PreTrainedTokenizerBase":
        """The system's tokenizer. Raises RunError or ModelError where there is no such checkpoint."""
        return self.model(system).tokenizer

    def model(self, system: SystemName) -> TransformersModel:
        """The system's model, loaded on first use."""
        with self._loading:
            if system not in self._models:
                folder = self.run.checkpoint(system)
                self._models[system] = TransformersModel.load(folder, self.run.decoding.generation_batch_size)
            return self._models[system]

    def submit(self, request: CompletionRequest) -> "Future[list[Completion]]":
        """The request's completions, as soon as its turn comes."""
        if self._closed:
            raise RunError(f"{self.run.folder.path}: the engine is closed; load the run again")
        with self._loading:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tagpr-generate", daemon=True)
                self._thread.start()
        future: Future[list[Completion]] = Future()
        self._queue.put((request, future))
        return future

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        waiting: list[Waiting] = []
        open_ = True
        while open_ or waiting:
            open_ = self._gather(waiting) and open_
            waiting = [pair for pair in waiting if not _given_up(pair)]
            if not waiting:
                continue
            first = waiting[0][0]
            batch = [pair for pair in waiting if _together(pair[0], first)]
            waiting = [pair for pair in waiting if not _together(pair[0], first)]
            try:
                self._answer(batch)
            except BaseException as error:  # whatever it is, it belongs to those who wait
                for _, future in batch:
                    _settle(future, error)

    def _gather(self, waiting: list[Waiting]) -> bool:
        """Take what is queued, waiting for a first request where there is none; False once the engine is closed."""
        patience = None if not waiting else 0.0
        while True:
            try:
                pair = self._queue.get(timeout=patience) if patience != 0.0 else self._queue.get_nowait()
            except queue.Empty:
                return True
            if pair is None:
                return False
            waiting.append(pair)
            patience = GATHER_SECONDS if patience is None else 0.0

    def _answer(self, batch: Sequence[Waiting]) -> None:
        """One generate call for requests of one system and sampling."""
        self.observe(len(batch))
        first = batch[0][0]
        model = self.model(first.system)
        askers: dict[tuple[int, ...], list[int]] = {}
        for number, (request, _) in enumerate(batch):
            askers.setdefault(request.prompt_ids, []).append(number)
        prompts = list(askers)
        samples = range(first.sampling.num_samples)
        growing = {
            (number, sample): GrowingText(model.tokenizer, request, model.end_ids)
            for number, (request, _) in enumerate(batch)
            for sample in samples
        }
        ended: set[tuple[int, int]] = set()

        def watch(prompt: int, sample: int, token_ids: Sequence[int]) -> bool:
            wanted = False
            for number in askers[prompts[prompt]]:
                request, key = batch[number][0], (number, sample)
                if key in ended or request.cancelled.is_set():
                    continue
                if request.on_text is not None or request.stop:
                    piece, stopped = growing[key].grow(token_ids)
                    if piece and request.on_text is not None:
                        request.on_text(sample, piece)
                    if stopped:
                        ended.add(key)
                        continue
                wanted = True
            return not wanted

        drawn = model.generate(prompts, first.sampling, watch=watch)
        for prompt, completions in zip(prompts, drawn, strict=True):
            for number in askers[prompt]:
                request, future = batch[number]
                own = [_stopped(completion, request.stop) for completion in completions]
                for sample, completion in enumerate(own):
                    rest = growing[number, sample].rest(completion.text)
                    if rest and request.on_text is not None and not request.cancelled.is_set():
                        request.on_text(sample, rest)
                _settle(future, own)


def _together(one: CompletionRequest, other: CompletionRequest) -> bool:
    return one.system == other.system and one.sampling == other.sampling


def _given_up(pair: Waiting) -> bool:
    request, future = pair
    return request.cancelled.is_set() and (future.cancel() or True)


def _stopped(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion up to its first stop text."""
    text = before_stop(completion.text, stop)
    return completion if text is None else replace(completion, text=text, finished=True)


def _settle(future: "Future[list[Completion]]", outcome: list[Completion] | BaseException) -> None:
    try:
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        pass  # whoever asked has cancelled
