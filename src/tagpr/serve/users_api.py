"""`/v1/users` and their interactions: what a server keeps of its users."""

import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from tagpr.data.dates import iso_date
from tagpr.errors import DataError
from tagpr.profiles.bm25 import index_of
from tagpr.profiles.repository import ProfileRepository
from tagpr.serve.chat_types import Text
from tagpr.serve.feedback import FeedbackStore
from tagpr.serve.model import PersonalModel
from tagpr.serve.replies import RefusedError, allow
from tagpr.serve.settings import ServeSettings
from tagpr.tasks.types import Interaction


class NewInteraction(BaseModel):
    """One thing that a user did."""

    id: Annotated[Text, Field(max_length=256)] = ""
    """Made where it is empty. Sent again with the same content, an item is not added twice."""
    date: Annotated[Text, Field(max_length=64)] | None = None
    fields: dict[Annotated[Text, Field(max_length=128)], Text] = Field(min_length=1, max_length=64)
    """By the names of the task's card."""


class Append(BaseModel):
    """Items to add, all or none."""

    task: str | None = None
    items: list[NewInteraction] = Field(min_length=1)


class StoredInteraction(BaseModel):
    """An item as it is kept."""

    task: str
    id: str
    date: str | None
    fields: dict[str, str]


def users_router(
    model: PersonalModel, store: ProfileRepository, feedback: FeedbackStore, settings: ServeSettings
) -> APIRouter:
    """The routes of users and their data. Every one runs in a thread, since it waits for the disk."""
    router = APIRouter(tags=["users"])

    @router.get("/v1/users")
    def users(
        request: Request,
        task: str | None = None,
        after: Annotated[str, Query(max_length=256)] = "",
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> dict[str, object]:
        """Ids of users with a history, sorted, page by page: `after` is the last id of the page before."""
        only: str | None = request.state.only_user
        name = task_named(model, task)
        if only is not None:
            found = [only] if store.get(name, only) else []
        else:
            found = list(store.users(name, after, limit))
        return {"object": "list", "task": name, "data": [{"id": user, "object": "user"} for user in found]}

    @router.get("/v1/users/{user_id:path}/interactions/export")
    def export(request: Request, user_id: str) -> StreamingResponse:
        """Everything of a user, one JSON object a line."""
        allow(request, user_id)
        rows = list(store.export(None, user_id))
        return StreamingResponse(_lines(rows), media_type="application/x-ndjson")

    @router.get("/v1/users/{user_id:path}/interactions")
    def interactions(request: Request, user_id: str, task: str | None = None) -> dict[str, object]:
        """A user's items, oldest first."""
        allow(request, user_id)
        name = task_named(model, task)
        return {"object": "list", "data": [_stored(name, item) for item in store.get(name, user_id)]}

    @router.post("/v1/users/{user_id:path}/interactions", status_code=201)
    def append(request: Request, user_id: str, body: Append) -> dict[str, object]:
        """Add items; when this returns they are on the disk. Also how a user is imported: no user is made before."""
        allow(request, user_id)
        if len(user_id) > 256 or not user_id.strip():
            raise RefusedError(400, "a user id has 1 to 256 characters")
        if len(body.items) > settings.max_items:
            raise RefusedError(413, f"at most {settings.max_items} items at a time")
        name = task_named(model, body.task)
        items = [Interaction(item.id, item.fields, _date(item.date)) for item in body.items]
        stored = store.append(name, user_id, items)
        return {"object": "list", "data": [_stored(name, item) for item in stored]}

    @router.delete("/v1/users/{user_id:path}")
    def delete(request: Request, user_id: str) -> dict[str, object]:
        """Forget a user: history and feedback, from the disk and from memory. For the run's files: `tagpr forget`."""
        allow(request, user_id)
        removed = {"interactions": store.delete_user(user_id), "feedback": feedback.delete_user(user_id)}
        index_of.cache_clear()  # indexes of histories hold their texts
        return {"id": user_id, "object": "user.deleted", "deleted": True, "removed": removed}

    return router


def task_named(model: PersonalModel, name: str | None) -> str:
    """The named task, or the run's only one. Raises RefusedError where that does not decide it."""
    if name is None and len(model.run.tasks) > 1:
        raise RefusedError(400, f"the run has several tasks; name one: {', '.join(model.run.tasks)}")
    if name is not None and name not in model.run.tasks:
        raise RefusedError(404, f"the run has no task of this name; it has {', '.join(model.run.tasks)}")
    return name or next(iter(model.run.tasks))


def _stored(task: str, item: Interaction) -> StoredInteraction:
    return StoredInteraction(task=task, id=item.id, date=item.date, fields=dict(item.fields))


def _lines(rows: list[tuple[str, str, Interaction]]) -> Iterator[str]:
    for task, user, item in rows:
        row = {"user_id": user, "task": task, "id": item.id, "date": item.date, **item.fields}
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _date(date: str | None) -> str | None:
    try:
        return iso_date(date) if date else None
    except (ValueError, OverflowError, OSError):
        raise DataError("an item's date is none; write it as 2024-05-31") from None
