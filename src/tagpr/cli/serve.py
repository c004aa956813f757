"""`tagpr serve` and `tagpr studio`: a trained run as an OpenAI-compatible server, and its page in the browser."""

import os
import socket
import threading
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from tagpr.cli.ask import RunArgument
from tagpr.cli.session import logged
from tagpr.errors import RunError

if TYPE_CHECKING:
    import uvicorn

HostOption = Annotated[str, typer.Option("--host", help="Another address than 127.0.0.1 needs TAGPR_API_KEY.")]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")]
UpstreamOption = Annotated[
    str, typer.Option("--upstream", metavar="URL", help="Let this OpenAI-compatible server run the checkpoint.")
]
UpstreamModelOption = Annotated[
    str | None, typer.Option("--upstream-model", help="What that server calls it; its first model if absent.")
]


def serve(
    run: RunArgument,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    upstream: UpstreamOption = "",
    upstream_model: UpstreamModelOption = None,
) -> None:
    """Serve a run over HTTP, OpenAI-compatible; `user` names whose history is shown (docs/serving.md)."""
    _serve(run, host, port, upstream, upstream_model, browser=False)


def studio(
    run: RunArgument,
    port: PortOption = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open nothing.")] = False,
    upstream: UpstreamOption = "",
    upstream_model: UpstreamModelOption = None,
) -> None:
    """Open a run in the browser: choose a user, ask, see the chain and what it stands on, change the history."""
    _serve(run, "127.0.0.1", port, upstream, upstream_model, browser=not no_browser)


def _serve(run: RunArgument, host: str, port: int, upstream: str, upstream_model: str | None, *, browser: bool) -> None:
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
    with logged(quiet=False), _listening(host, port) as listener:
        application = create_app(run, settings, engine)
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False))
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listener.getsockname()[1]}"
        typer.echo(f"serving {run} on {address}  (Ctrl-C ends)", err=True)
        if browser:
            threading.Thread(target=_open_when_ready, args=(server, address), daemon=True).start()
        server.run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a taken port is known before anything is loaded. Raises RunError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise RunError(f"cannot listen on {host}:{port} ({why}); give another --port, 0 for a free one") from None


def _open_when_ready(server: "uvicorn.Server", address: str) -> None:
    while not server.started:
        time.sleep(0.05)
    webbrowser.open(address)
