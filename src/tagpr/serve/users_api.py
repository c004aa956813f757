"""`/v1/users` and their interactions: what a server keeps of its users."""

import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from tagpr.profiles.bm25 import index_of
from tagpr.profiles.dense import forget_texts
from tagpr.profiles.repository import ProfileRepository
from tagpr.serve.feedback import FeedbackStore
from tagpr.serve.forget import Removal, forget
from tagpr.serve.items import NewInteraction, StoredInteraction, require_showable
from tagpr.serve.model import PersonalModel
from tagpr.serve.replies import RefusedError, allow
from tagpr.serve.settings import ServeSettings
from tagpr.tasks.types import Interaction


class Append(BaseModel):
    """Items to add, all or none."""

    task: str | None = None
    items: list[NewInteraction] = Field(min_length=1)


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
        prefix: Annotated[str, Query(max_length=256)] = "",
    ) -> dict[str, object]:
        """Ids of users with a history, sorted, page by page: `after` is the last id of the page before.

        Those that begin with `prefix` only, if it is given.
        """
        only: str | None = request.state.only_user
        name = task_named(model, task)
        if only is not None:
            found = [only] if only.startswith(prefix) and store.get(name, only) else []
        else:
            found = list(_page(store, name, prefix, after, limit))
        return {"object": "list", "task": name, "data": [{"id": user, "object": "user"} for user in found]}

    @router.get("/v1/users/{user_id:path}/interactions/export")
    def export(request: Request, user_id: str) -> StreamingResponse:
        """Everything of a user, one JSON object per line."""
        allow(request, user_id)
        rows = list(store.export(None, user_id))
        return StreamingResponse(_lines(rows), media_type="application/x-ndjson")

    @router.get("/v1/users/{user_id:path}/interactions")
    def interactions(request: Request, user_id: str, task: str | None = None) -> dict[str, object]:
        """A user's items, oldest first."""
        allow(request, user_id)
        name = task_named(model, task)
        return {"object": "list", "data": [StoredInteraction.of(name, item) for item in store.get(name, user_id)]}

    @router.post("/v1/users/{user_id:path}/interactions", status_code=201)
    def append(request: Request, user_id: str, body: Append) -> dict[str, object]:
        """Add items; when this returns they are on the disk. Also how a user is imported: no user is made before."""
        allow(request, user_id)
        if len(user_id) > 256 or not user_id.strip():
            raise RefusedError(400, "a user id has 1 to 256 characters")
        if len(body.items) > settings.max_items:
            raise RefusedError(413, f"at most {settings.max_items} items at a time")
        name = task_named(model, body.task)
        items = [item.interaction() for item in body.items]
        require_showable(model.run.tasks[name], items)
        stored = store.append(name, user_id, items)
        return {"object": "list", "data": [StoredInteraction.of(name, item) for item in stored]}

    @router.delete("/v1/users/{user_id:path}")
    def delete(request: Request, user_id: str, everywhere: bool = False) -> dict[str, object]:
        """Forget a user: history and feedback, from the disk and from memory; `everywhere`: the run's files too, as
        `tagpr forget` does.
        """
        allow(request, user_id)
        files: list[Removal] = []
        if everywhere:
            files += forget(model.run.folder.path, user_id).removals
        removed = {"interactions": store.delete_user(user_id), "feedback": feedback.delete_user(user_id)}
        index_of.cache_clear()  # indexes of histories hold their texts
        forget_texts()
        model.engine.forget(user_id)
        where = [{"file": file.path.name, "what": file.what} for file in files]
        return {"id": user_id, "object": "user.deleted", "deleted": True, "removed": removed, "files": where}

    return router


def task_named(model: PersonalModel, name: str | None) -> str:
    """The named task, or the run's only one. Raises RefusedError if that does not decide it."""
    if name is None and len(model.run.tasks) > 1:
        raise RefusedError(400, f"the run has several tasks; name one as `task`: {', '.join(model.run.tasks)}")
    if name is not None and name not in model.run.tasks:
        raise RefusedError(404, f"the run has no task of this name; it has {', '.join(model.run.tasks)}")
    return name or next(iter(model.run.tasks))


def _page(store: ProfileRepository, task: str, prefix: str, after: str, limit: int) -> Iterator[str]:
    """The ids that begin with `prefix` behind `after`: sorted, they follow one another."""
    if prefix and after < prefix and store.get(task, prefix):
        yield prefix
        limit -= 1
    for user in store.users(task, max(after, prefix), limit) if limit else ():
        if not user.startswith(prefix):
            return
        yield user


def _lines(rows: list[tuple[str, str, Interaction]]) -> Iterator[str]:
    for task, user, item in rows:
        row = {"user_id": user, "task": task, "id": item.id, "date": item.date, **item.fields}
        yield json.dumps(row, ensure_ascii=False) + "\n"
