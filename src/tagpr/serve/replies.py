"""Refusals in OpenAI's form, and who may reach whom."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tagpr.errors import ModelError, RunError, TagPRError
from tagpr.serve.histories import UnknownUserError


class RefusedError(TagPRError):
    """A request that is refused with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def allow(request: Request, user: str | None) -> None:
    """Raise RefusedError (403) if the request's key reaches one user only, and it is another."""
    only: str | None = request.state.only_user
    if only is not None and user != only:
        raise RefusedError(403, "this key reaches one user only")


def refusal(status: int, message: str) -> JSONResponse:
    """`{"error": ...}` as OpenAI's clients read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)


def add_refusals(app: FastAPI) -> None:
    """Every error as one line; what a user wrote is not repeated."""

    @app.exception_handler(TagPRError)
    async def ours(request: Request, error: TagPRError) -> JSONResponse:
        if isinstance(error, RefusedError):
            return refusal(error.status, str(error))
        if isinstance(error, UnknownUserError):  # whose own message names users of a similar id
            return refusal(404, "no history of this user with this task; append interactions first")
        return refusal(502 if isinstance(error, RunError | ModelError) else 400, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refusal(400, _in_words(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, str(error.detail))


def _in_words(problems: Sequence[Mapping[str, Any]]) -> str:
    """The one problem of a body that says most, without the names that pydantic gives what may stand in a place."""
    # of several things that may stand there, the one that was meant: what it holds is wrong, not its kind
    problem = max(problems, key=lambda one: (len(one["loc"]), not one["type"].endswith("_type")))
    where = ".".join(str(part) for part in problem["loc"] if "[" not in str(part))
    limits = problem.get("ctx", {})
    match problem["type"], limits.get("field_type", "Value"):  # a Value is a text, what else has a length is not
        case "string_type", _:
            said = "must be text"
        case "string_too_long" | "too_long", "Value":
            said = f"is longer than {limits['max_length']:,} characters; shorten it"
        case "string_too_short" | "too_short", "Value":
            said = "is empty; write something"
        case _:
            said = problem["msg"]
    return f"{where}: {said}"
