"""`tagpr serve`: a trained run as an OpenAI-compatible server."""

import os
from typing import Annotated

import typer

from tagpr.cli.ask import RunArgument
from tagpr.cli.session import logged
from tagpr.errors import RunError


def serve(
    run: RunArgument,
    host: Annotated[str, typer.Option("--host", help="Another address than 127.0.0.1 needs TAGPR_API_KEY.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    upstream: Annotated[
        str, typer.Option("--upstream", metavar="URL", help="Let this OpenAI-compatible server run the checkpoint.")
    ] = "",
    upstream_model: Annotated[
        str | None, typer.Option("--upstream-model", help="What that server calls it; its first model if absent.")
    ] = None,
) -> None:
    """Serve a run over HTTP, OpenAI-compatible; `user` names whose history is shown (docs/serving.md)."""
    try:
        import uvicorn

        from tagpr.serve.app import create_app
    except ModuleNotFoundError as error:
        raise RunError(f"serve needs {error.name}; pip install 'tagpr[serve]'") from None
    from tagpr.serve.served_run import ServedRun
    from tagpr.serve.settings import ServeSettings
    from tagpr.serve.upstream import UpstreamEngine

    settings = ServeSettings.from_environment(host, port, os.environ)
    engine = UpstreamEngine(ServedRun.open(run), upstream, upstream_model) if upstream else None
    with logged(quiet=False):
        application = create_app(run, settings, engine)
        typer.echo(f"serving {run} on http://{host}:{port}  (Ctrl-C ends)", err=True)
        uvicorn.run(application, host=host, port=port, log_level="warning", access_log=False)
