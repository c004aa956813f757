"""`create_app`: the server of one run as an ASGI application. `tagpr serve RUN` runs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response

from tagpr.serve.chat import chat_router
from tagpr.serve.engines import Engine
from tagpr.serve.feedback import FeedbackStore
from tagpr.serve.feedback_api import feedback_router
from tagpr.serve.guard import Guard
from tagpr.serve.metrics import Metrics
from tagpr.serve.model import PersonalModel
from tagpr.serve.replies import add_refusals, allow
from tagpr.serve.served_run import ServedRun
from tagpr.serve.settings import ServeSettings
from tagpr.serve.store import feedback_path, open_store
from tagpr.serve.studio import add_studio
from tagpr.serve.users_api import users_router


def create_app(run: str | Path, settings: ServeSettings, engine: Engine | None = None) -> FastAPI:
    """The application. engine: the run's checkpoints in this process where None.

    Raises RunError if there is no trained run, DataError if its store is damaged.
    """
    served, metrics = ServedRun.open(run), Metrics()
    store, feedback = open_store(served), FeedbackStore(feedback_path(served))
    if engine is None:
        from tagpr.serve.batching import EmbeddedEngine  # loads torch

        engine = EmbeddedEngine(served, metrics.step)
    model = PersonalModel(served, store, engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model.engine.tokenizer(served.default_system)  # loads the checkpoint: who is ready answers at once
        yield
        model.close()
        store.close()
        feedback.close()

    app = FastAPI(
        title="tagpr",
        description=f"Personal answers of run {served.name}. `user` names whose history is shown.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads its scripts from another host; /openapi.json is the same without
        redoc_url=None,
    )
    add_refusals(app)
    app.include_router(chat_router(model, settings, metrics))
    app.include_router(users_router(model, store, feedback, settings))
    app.include_router(feedback_router(model, feedback))
    add_studio(app, served)

    @app.get("/healthz", tags=["server"])
    async def healthz() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok", "run": served.name}

    @app.get("/metrics", tags=["server"])
    async def prometheus(request: Request) -> Response:
        """Counters for Prometheus."""
        allow(request, None)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    app.add_middleware(Guard, settings=settings, metrics=metrics)
    return app
