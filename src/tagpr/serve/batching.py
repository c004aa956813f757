"""`EmbeddedEngine`: the run's checkpoints in this process; requests join those that are being decoded at any step.

One thread owns all models, so that two of them never compete for the processors; if several are asked, they take
turns step by step. Equal requests on their way at the same time are drawn once: a seed decides an answer whoever else
is asking. Beginnings of prompts, a user's history among them, are kept (`tagpr.engine.prefix_cache`).
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tagpr.engine.group_attention import why_not_shared
from tagpr.engine.models import inner_model
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Completion
from tagpr.errors import RunError
from tagpr.serve.calls import Asker, Call
from tagpr.serve.engines import CompletionRequest
from tagpr.serve.served_run import ServedRun, SystemName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tagpr.engine.continuous import ContinuousDecoder

logger = logging.getLogger(__name__)

Observe = Callable[[int, int], None]
"""Told after each step: how many completions ran, and how many prompt tokens came from what was kept."""


@dataclass(frozen=True)
class _Forget:
    user: str
    done: "Future[None]"


class EmbeddedEngine:
    """Completes prompts with the run's checkpoints, each loaded when first asked for."""

    def __init__(self, run: ServedRun, observe: Observe = lambda running, reused: None) -> None:
        self.run, self.observe = run, observe
        self._models: dict[SystemName, TransformersModel] = {}
        self._loading = threading.Lock()
        self._queue: queue.SimpleQueue[Asker | _Forget | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._decoders: dict[SystemName, ContinuousDecoder] = {}
        self._calls: dict[SystemName, list[Call]] = {}

    def tokenizer(self, system: SystemName) -> "PreTrainedTokenizerBase":
        """The system's tokenizer. Raises RunError or ModelError if there is no such checkpoint."""
        return self.model(system).tokenizer

    def model(self, system: SystemName) -> TransformersModel:
        """The system's model, loaded on first use."""
        with self._loading:
            if system not in self._models:
                folder = self.run.checkpoint(system)
                self._models[system] = TransformersModel.load(folder, self.run.decoding.generation_batch_size)
            return self._models[system]

    def submit(self, request: CompletionRequest) -> "Future[list[Completion]]":
        """The request's completions, as soon as they are there."""
        if self._closed:
            raise RunError(f"{self.run.folder.path}: the engine is closed; load the run again")
        asker = Asker(request)
        self._put(asker)
        return asker.future

    def forget(self, user: str) -> None:
        """Drop what is kept of a user's prompts; waits until it is gone."""
        if self._thread is not None and not self._closed:
            done: Future[None] = Future()
            self._put(_Forget(user, done))
            done.result()

    def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _put(self, item: "Asker | _Forget") -> None:
        with self._loading:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tagpr-generate", daemon=True)
                self._thread.start()
        self._queue.put(item)

    def _work(self) -> None:
        open_ = True
        while open_ or any(self._calls.values()):
            open_ = self._gather(wait=open_ and not any(self._calls.values())) and open_
            for system, calls in self._calls.items():
                if calls:
                    self._step(system, calls)
        for decoder in self._decoders.values():
            decoder.close()

    def _gather(self, wait: bool) -> bool:
        """Take what is queued, waiting for a first item if `wait`; False once the engine is closed."""
        while True:
            try:
                item = self._queue.get(block=wait)
            except queue.Empty:
                return True
            if item is None:
                return False
            wait = False
            if isinstance(item, Asker):
                self._start(item)
            else:
                for decoder in self._decoders.values():
                    decoder.forget(item.user)
                item.done.set_result(None)

    def _start(self, asker: Asker) -> None:
        """Join an equal call on its way, or begin one."""
        if asker.given_up:
            return
        request = asker.request
        try:
            model = self.model(request.system)
            asker.begin(model)
            calls = self._calls.setdefault(request.system, [])
            for call in calls:
                if call.is_same(request):
                    call.askers.append(asker)
                    return
            call = Call(asker)
            if why_not_shared(inner_model(model.model), len(request.prompt_ids) + request.sampling.max_new_tokens):
                call.alone(model)
                return
            calls.append(call)
            decoder = self._decoder(request.system, model)
            for job in call.jobs:
                decoder.add(job)
        except BaseException as error:  # whatever it is, it belongs to who asked
            asker.settle(error)

    def _decoder(self, system: SystemName, model: TransformersModel) -> "ContinuousDecoder":
        from tagpr.engine.continuous import ContinuousDecoder

        if system not in self._decoders:
            self._decoders[system] = ContinuousDecoder(model.model, model.end_ids)
        return self._decoders[system]

    def _step(self, system: SystemName, calls: list[Call]) -> None:
        decoder, model = self._decoders[system], self.model(system)
        for call in [call for call in calls if all(asker.given_up for asker in call.askers)]:
            decoder.remove(call.jobs)
            calls.remove(call)
        try:
            before, running = decoder.reused, len(decoder.running)
            ended = decoder.step() if decoder.busy else []
            self.observe(running, decoder.reused - before)
            for call in _whole(calls, ended):
                calls.remove(call)
                call.finish(model)
        except BaseException as error:  # such as too little memory
            decoder.drop()
            for call in calls:
                for asker in call.askers:
                    asker.settle(error)
            calls.clear()


def _whole(calls: Iterable[Call], ended: Iterable[object]) -> list[Call]:
    """The calls of which every completion is there now."""
    over = set(map(id, ended))
    found = []
    for call in calls:
        call.left -= sum(id(job) in over for job in call.jobs)
        if not call.left:
            found.append(call)
    return found
