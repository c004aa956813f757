"""The studio: the page at `/`, its files under `/static`, and `/v1/run`, which tells a page what the run is about."""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles

from tagpr.serve.served_run import ServedRun, SystemName
from tagpr.tasks.templates import names_in
from tagpr.tasks.types import Kind, Task

FILES = Path(__file__).with_name("static")


class TaskForm(BaseModel):
    """What a form about a task needs to know."""

    name: str
    kind: Kind
    description: str
    instruction: str
    question_fields: list[str]
    """Fields that the question is made of; empty if it is one text, sent as the message."""
    item_fields: list[str]
    """Fields of a history item, the output last."""
    output_field: str | None
    labels: list[str]

    @classmethod
    def of(cls, task: Task) -> "TaskForm":
        """From a card."""
        asked = [name for name in names_in(task.question) if name != "task"]
        output = task.output_field
        return cls(
            name=task.name,
            kind=task.kind,
            description=task.description,
            instruction=task.instruction,
            question_fields=[] if set(asked) <= {"input", task.input_name} else asked,
            item_fields=[*task.input_fields, *([output] if output and output not in task.input_fields else [])],
            output_field=output,
            labels=list(task.labels),
        )


class RunForm(BaseModel):
    """The run as a page shows it."""

    name: str
    systems: list[SystemName]
    """Untrained first; the last one answers by default."""
    tags: dict[str, str]
    """Names of the vocabulary and what they mean."""
    tasks: list[TaskForm]


def add_studio(app: FastAPI, run: ServedRun) -> None:
    """The page and what it asks of the run beside the public routes."""
    router = APIRouter()
    form = RunForm(
        name=run.name,
        systems=list(run.systems),
        tags={tag.name: tag.definition for tag in run.vocabulary.tags},
        tasks=[TaskForm.of(task) for task in run.tasks.values()],
    )

    @router.get("/v1/run", tags=["server"])
    async def about() -> RunForm:
        """The run's systems, tasks and tags: what a page needs for its forms."""
        return form

    @router.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        """The studio."""
        return FileResponse(FILES / "index.html")

    app.include_router(router)
    app.mount("/static", StaticFiles(directory=FILES), name="static")
