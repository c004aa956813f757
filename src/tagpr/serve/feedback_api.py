"""`/v1/feedback`: what users say of answers, kept and exported as preference pairs."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from tagpr.serve.feedback import FeedbackStore, corrected_answer, new_feedback
from tagpr.serve.items import NewInteraction
from tagpr.serve.model import PersonalModel, Query
from tagpr.serve.replies import allow
from tagpr.serve.text_types import Text, UserId


class NewFeedback(BaseModel):
    """A thumb, and what would have been better."""

    user: UserId
    question: Annotated[Text, Field(min_length=1)] | dict[Text, Text]
    """Its text, or its fields for cards with several."""
    answer: Text
    """The text that is judged: the answer, or the whole turn with its chain."""
    rating: Literal["up", "down"]
    better: Text | None = None
    task: str | None = None
    system: Literal["base", "sft", "guided", "final"] | None = None
    without: list[Text] = Field(default=[], max_length=10_000)
    history: list[NewInteraction] | None = Field(default=None, max_length=1_000)
    """The history that was shown, if it was not the stored one (what-if)."""


def feedback_router(model: PersonalModel, feedback: FeedbackStore) -> APIRouter:
    """The routes of feedback."""
    router = APIRouter(tags=["feedback"])

    @router.post("/v1/feedback", status_code=201)
    def judge(request: Request, body: NewFeedback) -> dict[str, object]:
        """Keep what a user says of an answer, with the prompt as it was shown."""
        allow(request, body.user)
        shown = None if body.history is None else [item.interaction() for item in body.history]
        query = Query(body.user, body.question, body.task, body.system, None, frozenset(body.without), shown)
        asked = model.put(query)
        if body.better:
            corrected_answer(asked.task, model.run.vocabulary, body.better)
        new = new_feedback(asked, body.rating, body.answer, body.better)
        feedback.add(new)
        return {"id": new.id, "object": "feedback", "pair": new.chosen is not None and new.rejected is not None}

    @router.get("/v1/feedback")
    def judgements(request: Request, user: str | None = None) -> StreamingResponse:
        """The judgements of a user, or of all, one JSON object per line."""
        allow(request, user)
        rows = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in feedback.all(user)]
        return StreamingResponse(iter(rows), media_type="application/x-ndjson")

    return router
