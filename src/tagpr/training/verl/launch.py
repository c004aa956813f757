"""The command that trains an exported stage with verl, and running it. `python -m tagpr.training.verl FOLDER` does too.

It continues from the newest checkpoint of the folder. Every launch logs into a folder of its own, because verl's file
logger begins its file anew.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache

from tagpr.errors import RunError
from tagpr.training.verl.layout import METRICS, VerlFolder


def verl_command(folder: VerlFolder, further: Sequence[str] = (), python: str | None = None) -> list[str]:
    """The words that start verl's own `main_ppo` on the folder, with `further` settings in its words. Makes the folder
    of this launch's log.
    """
    path = folder.path.resolve()
    log = VerlFolder(path).launch(datetime.now(UTC).strftime("%Y%m%dT%H%M%S"))
    log.mkdir(parents=True, exist_ok=True)
    metrics = "ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH"
    return [
        *(python or sys.executable, "-m", "verl.trainer.main_ppo"),
        *("--config-path", str(path), "--config-name", folder.config.stem),
        *(f"reward.tagpr.log={_quoted(log)}", f"{metrics}={_quoted(log / METRICS)}"),
        *further,
    ]


def train(folder: VerlFolder, further: Sequence[str] = (), python: str | None = None) -> None:
    """Train in a process of its own, whose output goes to `folder.console`; it ends with this one.

    Raises RunError with the last error that it wrote if it fails.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.console.open("ab") as console:
        before = console.tell()
        words = verl_command(folder, further, python)
        started = subprocess.Popen(words, stdout=console, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent)
        try:
            status = started.wait()
        except BaseException:
            started.terminate()
            started.wait()
            raise
    if status:
        raise RunError(
            f"verl ended with status {status} ({_last_error(folder, before)}); its output is in {folder.console}"
        )


@cache
def has_verl(python: str | None = None) -> bool:
    """Whether that Python (None: this one) has verl."""
    try:
        words = [python or sys.executable, "-c", "import importlib.util as u; exit(not u.find_spec('verl'))"]
        return subprocess.run(words, capture_output=True).returncode == 0
    except OSError:
        return False


def _end_with_parent() -> None:
    """Linux: ask the kernel to end this process when its parent dies, however that dies; two would train one stage."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _quoted(path: os.PathLike[str]) -> str:
    """A path as a value of hydra's command line."""
    text = os.fspath(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


_ERROR = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception): .+)")


def _last_error(folder: VerlFolder, start: int) -> str:
    """The last line after byte `start` that names an exception; other processes write on after the one that failed."""
    text = folder.console.read_bytes()[start:].decode(errors="replace")
    found = [match[1] for line in text.splitlines() if (match := _ERROR.search(line))]
    return found[-1].strip()[:200] if found else "it named no error"
