"""`/v1/chat/completions` and `/v1/models`: a user's question in OpenAI's form, whole or streamed."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import asdict, replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import JsonValue, TypeAdapter

from tagpr.engine.types import Completion, Sampling
from tagpr.serve.answers import PersonalAnswer
from tagpr.serve.chat_types import ChatRequest, ChatResponse, Choice, ChoiceMessage, Usage, system_of
from tagpr.serve.engines import CompletionRequest
from tagpr.serve.metrics import Metrics
from tagpr.serve.model import PersonalModel, Query
from tagpr.serve.questions import Asked
from tagpr.serve.replies import RefusedError, allow
from tagpr.serve.settings import ServeSettings
from tagpr.serve.turn_split import TurnSplit, chain_text


def chat_router(model: PersonalModel, settings: ServeSettings, metrics: Metrics) -> APIRouter:
    """The routes of chat."""
    router = APIRouter(tags=["chat"])
    started = int(time.time())

    @router.get("/v1/models")
    async def models() -> dict[str, object]:
        """The run's systems; the last trained one first."""
        names = reversed(model.run.systems)
        rows = [{"id": name, "object": "model", "created": started, "owned_by": model.run.name} for name in names]
        return {"object": "list", "data": rows}

    @router.post("/v1/chat/completions", response_model=ChatResponse)
    async def chat(body: ChatRequest, request: Request) -> Response | ChatResponse:
        """Answer the last user message for `user`, from that user's history. `stream` sends it as it is written."""
        query = _query(body, request, model)
        asked = await asyncio.to_thread(model.put, query)
        turn = _Turn(body, asked, model, metrics)
        if body.stream:
            return StreamingResponse(turn.events(settings.timeout_seconds), media_type="text/event-stream")
        try:
            return turn.whole(await asyncio.wait_for(turn.completions(), settings.timeout_seconds))
        except TimeoutError:
            raise RefusedError(504, f"no answer within {settings.timeout_seconds:g} s") from None

    return router


def _query(body: ChatRequest, request: Request, model: PersonalModel) -> Query:
    user = body.user if body.user is not None else request.state.only_user
    own = body.tagpr
    for name in {user, own.history_of} - {None, ""}:
        allow(request, name)
    system = system_of(body.model, model.run.systems, model.run.default_system)
    if system is None:
        raise RefusedError(404, f"no model '{body.model}'; there is {', '.join(model.run.systems)}")
    if own.best_of > 1 and (body.stream or body.n > 1):
        raise RefusedError(400, "tagpr.best_of: ask for one whole reply, without stream and n")
    question = next((message.text for message in reversed(body.messages) if message.role == "user"), "")
    history_of = own.history_of if own.history_of is not None or user else ""
    shown = None if own.history is None else [item.interaction() for item in own.history]
    return Query(
        user or "", own.fields or question, own.task, system, history_of, frozenset(own.without), shown, own.best_of
    )


class _Turn:
    """One request on its way: asked once, answered whole or in events."""

    def __init__(self, body: ChatRequest, asked: Asked, model: PersonalModel, metrics: Metrics) -> None:
        self.body, self.asked, self.model, self.metrics = body, asked, model, metrics
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    @property
    def sampling(self) -> Sampling:
        """The run's own sampling, changed if the body says so."""
        given = {
            "max_new_tokens": self.body.max_completion_tokens or self.body.max_tokens,
            "temperature": self.body.temperature,
            "top_p": self.body.top_p,
            "seed": self.body.seed,
        }
        changed = {name: value for name, value in given.items() if value is not None}
        if self.body.tagpr.best_of > 1:
            return replace(self.model.sampling_of(self.body.tagpr.best_of), **changed)
        return replace(self.model.sampling, num_samples=self.body.n, logprobs=self.body.logprobs, **changed)

    @property
    def stop(self) -> tuple[str, ...]:
        stop = self.body.stop or []
        return tuple(filter(None, [stop] if isinstance(stop, str) else stop))

    async def completions(self) -> list[Completion]:
        """All `n` completions; given up where nobody waits any more."""
        request = self.model.request(self.asked, self.sampling, self.stop)
        try:
            return await asyncio.wrap_future(self.model.engine.submit(request))
        finally:
            request.cancelled.set()

    def whole(self, completions: list[Completion]) -> ChatResponse:
        """The reply in one piece."""
        if self.body.tagpr.best_of > 1:
            chosen, best = self.model.best(self.asked, completions)
            choices = [self._choice(0, best, chosen if self.body.logprobs else replace(chosen, logprobs=None))]
        else:
            answers = [self.model.answer(self.asked, one) for one in completions]
            choices = [self._choice(i, a, c) for i, (a, c) in enumerate(zip(answers, completions, strict=True))]
        return ChatResponse(
            id=self.id, created=self.created, model=self.asked.system, choices=choices, usage=self._usage(completions)
        )

    def _choice(self, index: int, answer: PersonalAnswer, completion: Completion) -> Choice:
        message = ChoiceMessage(content=answer.answer, reasoning_content=chain_text(answer) or None)
        logprobs: JsonValue = None
        if completion.logprobs is not None:
            tokenizer = self.model.engine.tokenizer(self.asked.system)
            tokens = [tokenizer.decode([token]) for token in completion.token_ids]
            pairs = zip(tokens, completion.logprobs, strict=True)
            rows: list[JsonValue] = []
            for token, logprob in pairs:
                row: dict[str, JsonValue] = {"token": str(token), "logprob": logprob, "top_logprobs": []}
                rows.append(row)
            logprobs = {"content": rows}
        reason = "stop" if answer.finished else "length"
        return Choice(index=index, message=message, finish_reason=reason, logprobs=logprobs, tagpr=public(answer))

    def _usage(self, completions: list[Completion]) -> Usage:
        prompt, written = len(self.asked.prompt_ids), sum(one.reply_tokens for one in completions)
        self.metrics.tokens(prompt, written)
        return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)

    async def events(self, seconds: float) -> AsyncIterator[str]:
        """Server-sent events: pieces of chain and answer, then what is ours, then `[DONE]`."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[int, str] | None]()

        def tell(value: tuple[int, str] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(pieces.put_nowait, value)

        request = self.model.request(self.asked, self.sampling, self.stop, lambda n, piece: tell((n, piece)))
        try:
            future = self.model.engine.submit(request)
            future.add_done_callback(lambda done: tell(None))
            async with asyncio.timeout(seconds):
                async for event in self._pieces(pieces):
                    yield event
            for event in self._last(request, future):
                yield event
        except TimeoutError:
            yield _event({"error": {"message": f"no whole answer within {seconds:g} s", "code": 504}})
        except Exception as error:  # the reply has begun: its end has to say what happened
            yield _event({"error": {"message": str(error) or type(error).__name__, "code": 502}})
        finally:
            request.cancelled.set()
        yield "data: [DONE]\n\n"

    async def _pieces(self, pieces: "asyncio.Queue[tuple[int, str] | None]") -> AsyncIterator[str]:
        began = time.monotonic()
        splits = [TurnSplit(self.model.run.vocabulary) for _ in range(self.body.n)]
        self.said = [""] * self.body.n
        for index in range(self.body.n):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        first = True
        while (piece := await pieces.get()) is not None:
            if first:
                self.metrics.first_text(time.monotonic() - began)
            first = False
            index, text = piece
            chain, answer = splits[index].feed(text)
            self.said[index] += answer
            delta = {name: new for name, new in (("reasoning_content", chain), ("content", answer)) if new}
            if delta:
                yield self._chunk(index, delta)

    def _last(self, request: CompletionRequest, future: "Future[list[Completion]]") -> list[str]:
        completions = future.result()
        events = []
        for index, completion in enumerate(completions):
            answer = self.model.answer(self.asked, completion)
            missing = answer.answer.removeprefix(self.said[index]) if index < len(self.said) else ""
            if missing and len(missing) < len(answer.answer) + (not self.said[index]):
                events.append(self._chunk(index, {"content": missing}))
            choice = self._choice(index, answer, completion)
            events.append(self._chunk(index, {}, choice))
        if self.body.stream_options is not None and self.body.stream_options.include_usage:
            usage = self._usage(completions).model_dump()
            events.append(_event({**self._head(), "choices": [], "usage": usage}))
        else:
            self._usage(completions)
        return events

    def _head(self) -> dict[str, object]:
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created}
        return {**head, "model": self.asked.system}

    def _chunk(self, index: int, delta: dict[str, str], last: Choice | None = None) -> str:
        """A piece of an answer. last: the whole of it, whose end and log-probabilities the last piece says."""
        choice: dict[str, object] = {"index": index, "delta": delta, "finish_reason": None}
        if last is not None:
            choice |= {"finish_reason": last.finish_reason, "logprobs": last.logprobs, "tagpr": last.tagpr}
        return _event({**self._head(), "choices": [choice]})


_JSON = TypeAdapter[dict[str, JsonValue]](dict[str, JsonValue])


def public(answer: PersonalAnswer) -> dict[str, JsonValue]:
    """What is ours of an answer, as JSON."""
    values = json.loads(json.dumps(asdict(answer)))
    kept = ["user", "task", "system", "history_of", "text", "segments", "evidence", "faults"]
    kept += ["agreement"] * (answer.agreement is not None)
    return _JSON.validate_python({name: values[name] for name in kept})


def _event(value: object) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
