"""A PostgreSQL server of the test's own, from Debian's package, on a socket in a temporary folder."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """The newest installed version's binaries."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(os.path.realpath(beside)).parent if beside else None


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory) -> Iterator[str]:
    """The URL of a running server. PostgreSQL refuses to run as root, so there it runs as its own user."""
    bin = binaries()
    if bin is None:
        pytest.skip("needs PostgreSQL's server (Debian: apt install postgresql)")
    pytest.importorskip("psycopg_pool")
    folder = tmp_path_factory.mktemp("pg")
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        for parent in [*folder.parents][:3]:
            if parent.stat().st_uid == 0 and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)  # the temporary folder's parents are root's alone
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True, env={"LC_ALL": "C.UTF-8"})

    run(str(bin / "initdb"), "-D", str(data), "-U", "tagpr", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c max_connections=40"
    run(str(bin / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://tagpr@/postgres?host={folder}"
    finally:
        process = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(process, signal.SIGQUIT)  # an immediate shutdown; nothing of it is needed any more
        while (data / "postmaster.pid").exists():
            time.sleep(0.05)
