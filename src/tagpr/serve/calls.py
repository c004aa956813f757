"""A prompt on its way through the embedded engine: `Call`, and each `Asker` that waits for it."""

from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import replace
from functools import partial

from tagpr.engine.continuous import Job
from tagpr.engine.transformers_model import TransformersModel, completions
from tagpr.engine.types import Completion, Continuation
from tagpr.serve.engines import CompletionRequest, GrowingText, before_stop


class Asker:
    """One request, told how its completions grow."""

    def __init__(self, request: CompletionRequest) -> None:
        self.request = request
        self.future: Future[list[Completion]] = Future()
        self._growing: list[GrowingText] = []
        self._ended: set[int] = set()

    @property
    def given_up(self) -> bool:
        """Whether nobody waits any more."""
        if self.request.cancelled.is_set():
            self.future.cancel()
            return True
        return False

    def begin(self, model: TransformersModel) -> None:
        """Be ready for text of this model."""
        samples = range(self.request.sampling.num_samples)
        self._growing = [GrowingText(model.tokenizer, self.request, model.end_ids) for _ in samples]

    def take(self, sample: int, token_ids: Sequence[int]) -> bool:
        """Pass the new text on; whether more of this sample is wanted."""
        request = self.request
        if sample in self._ended or request.cancelled.is_set():
            return False
        if request.on_text is None and not request.stop:
            return True
        piece, stopped = self._growing[sample].grow(token_ids)
        if piece and request.on_text is not None:
            request.on_text(sample, piece)
        if stopped:
            self._ended.add(sample)
        return not stopped

    def finish(self, whole: Sequence[Completion]) -> None:
        """Pass on what is left of the text, then the completions."""
        own = [_stopped(completion, self.request.stop) for completion in whole]
        for sample, completion in enumerate(own):
            rest = self._growing[sample].rest(completion.text)
            if rest and self.request.on_text is not None and not self.request.cancelled.is_set():
                self.request.on_text(sample, rest)
        self.settle(own)

    def settle(self, outcome: list[Completion] | BaseException) -> None:
        """Set the future, unless whoever asked has cancelled it."""
        try:
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except InvalidStateError:
            pass


class Call:
    """One prompt with its samples, and all that ask for it."""

    def __init__(self, first: Asker) -> None:
        request = self.request = first.request
        self.askers = [first]
        # a greedy completion is the same for every sample
        self.drawn = 1 if request.sampling.temperature == 0 else request.sampling.num_samples
        self.jobs = [
            Job(request.prompt_ids, request.sampling, n, partial(self._on_token, n), request.owners, request.public)
            for n in range(self.drawn)
        ]
        self.left = len(self.jobs)
        """Completions that are not whole yet."""

    def is_same(self, request: CompletionRequest) -> bool:
        """Whether a request would draw the very same."""
        own = self.request
        same = own.prompt_ids == request.prompt_ids and own.sampling == request.sampling
        return same and own.owners == request.owners

    def finish(self, model: TransformersModel) -> None:
        """Give everyone who asks the completions."""
        self._finish(model, [job.continuation(model.end_ids) for job in self.jobs])

    def alone(self, model: TransformersModel) -> None:
        """Draw it in one call, for a model whose prompts cannot share a step with others."""
        prompt = list(self.request.prompt_ids)
        drawn = model.generate([prompt], self.request.sampling, watch=lambda _, n, tokens: self._on_token(n, tokens))
        for asker in self.askers:
            asker.finish(drawn[0])

    def _finish(self, model: TransformersModel, drawn: Sequence[Continuation]) -> None:
        samples = [drawn[n % self.drawn] for n in range(self.request.sampling.num_samples)]
        whole = completions(model.tokenizer, model.end_ids, [self.request.prompt_ids], [samples])[0]
        for asker in self.askers:
            asker.finish(whole)

    def _on_token(self, sample: int, token_ids: Sequence[int]) -> bool:
        samples = range(self.request.sampling.num_samples) if self.drawn == 1 else [sample]
        wanted = [asker.take(n, token_ids) for asker in self.askers for n in samples]  # each is told
        return not any(wanted)


def _stopped(completion: Completion, stop: Sequence[str]) -> Completion:
    """The completion up to its first stop text."""
    text = before_stop(completion.text, stop)
    return completion if text is None else replace(completion, text=text, finished=True)
