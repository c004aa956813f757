"""The profile store under load: a million users, threads that append, one that looks users up, in one process.

    python benchmarks/bench_store.py            # SQLite; writes results/store.json
    python benchmarks/bench_store.py --small    # a smoke test; writes nothing

Appends are durable when they count: the disk has been waited for. `appends_per_second_alone` is one thread, which waits
for the disk each time; the others share their waits. The folder must be on a real disk (`--folder`), not on tmpfs.
"""

import argparse
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from results_file import peak_gib, write_results
from tagpr.profiles.repository import ProfileRepository, open_repository
from tagpr.tasks import Interaction

TASK = "posts"
TEXT = "a small garden rake with a long wooden handle for the front and the back of every yard in town"
TEXTS = [" ".join(random.Random(number).choices(TEXT.split(), k=24)) for number in range(1000)]


def item(rng: random.Random, name: str) -> Interaction:
    text = rng.choice(TEXTS)
    return Interaction(name, {"text": text, "title": text[:24]}, "2024-05-01")


def rows(users: int, items: int) -> Iterator[tuple[str, Interaction]]:
    rng = random.Random(0)
    for user in range(users):
        for number in range(items):
            yield f"user-{user:07}", item(rng, str(number))


def p(share: float, seconds: list[float]) -> float:
    """A quantile in milliseconds."""
    return round(1000 * sorted(seconds)[int(share * (len(seconds) - 1))], 3)


def load_test(store: ProfileRepository, users: int, writers: int, seconds: float) -> dict[str, float]:
    """Appends of `writers` threads beside one thread of lookups."""
    rng = random.Random(1)
    appends, lookups, until = [list[float]() for _ in range(writers)], list[float](), time.perf_counter() + seconds

    def append(own: list[float]) -> None:
        while (start := time.perf_counter()) < until:
            store.append(TASK, f"user-{rng.randrange(users):07}", [item(rng, "")])
            own.append(time.perf_counter() - start)

    def look_up() -> None:
        while time.perf_counter() < until:
            user = f"user-{rng.randrange(users):07}"
            start = time.perf_counter()
            found = store.get(TASK, user)
            lookups.append(time.perf_counter() - start)
            if not found:
                raise SystemExit(f"the history of {user} is empty")
            time.sleep(0.001)  # a thousand per second at most: a server's, not a loop's

    threads = [threading.Thread(target=append, args=(own,)) for own in appends]
    threads.append(threading.Thread(target=look_up))
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent, every = time.perf_counter() - start, [one for own in appends for one in own]
    return {
        "appends_per_second": round(len(every) / spent, 1),
        "append_ms_p50": p(0.5, every),
        "append_ms_p99": p(0.99, every),
        "lookups_per_second": round(len(lookups) / spent),
        "lookup_ms_p50": p(0.5, lookups),
        "lookup_ms_p99": p(0.99, lookups),
    }


def fsync_ms(folder: Path) -> float:
    """Median of what the disk itself takes to acknowledge 4 KiB."""
    times = []
    with open(folder / "fsync", "wb") as stream:
        for _ in range(50):
            start = time.perf_counter()
            stream.write(bytes(4096))
            stream.flush()
            os.fsync(stream.fileno())
            times.append(time.perf_counter() - start)
    return p(0.5, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=2)
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--folder", type=Path, help="where the store is made and removed again")
    arguments = parser.parse_args()
    users, seconds = (2000, 2.0) if arguments.small else (arguments.users, arguments.seconds)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "profiles.sqlite"
        store = open_repository(path)
        start = time.perf_counter()
        store.load(TASK, rows(users, arguments.items))
        built = time.perf_counter() - start
        alone = load_test(store, users, 1, seconds / 4)
        figures: dict[str, object] = {
            "users": users,
            "items_per_user": arguments.items,
            "writers": arguments.writers,
            **load_test(store, users, arguments.writers, seconds),
            "appends_per_second_alone": alone["appends_per_second"],
            "fsync_ms": fsync_ms(Path(folder)),
            "load_s": round(built, 1),
            "disk_gib": round(sum(one.stat().st_size for one in Path(folder).iterdir()) / 2**30, 3),
            "peak_memory_gib": round(peak_gib(), 3),
            "file_system": subprocess.run(
                ["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=False
            ).stdout.strip(),
            "load_average": round(os.getloadavg()[0], 1),
        }
        store.close()
    width = max(map(len, figures))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in figures.items()))
    if not arguments.small:
        write_results("store", "python benchmarks/bench_store.py", figures)


if __name__ == "__main__":
    main()
