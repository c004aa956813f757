"""Starting and stopping `llm_server.py` from tests and benchmarks."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_server(folder: Path, *options: str) -> Iterator[str]:
    """Yield the base URL of a server of its own process."""
    folder.mkdir(parents=True, exist_ok=True)
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    server = Path(__file__).with_name("llm_server.py")
    process = subprocess.Popen([sys.executable, str(server), str(port_file), *options])
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text()}/v1"
    finally:
        process.kill()
        process.wait()
