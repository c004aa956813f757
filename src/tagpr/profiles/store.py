"""A store of very many users' histories: Arrow files, memory-mapped, looked up by user id.

A store is a folder of immutable segments plus one small `store.json` that names them and is replaced atomically, so a
kill at any moment leaves the old or the new state. A segment holds interactions sorted by user (`rows.arrow`) and an
index of sorted 64-bit hashes of user ids with row ranges (`index.npy`); a lookup is a binary search in each segment and
a slice. `append` adds a segment, `delete_user` notes the user as deleted in the segments so far, `compact` merges all
into one segment and really removes the deleted. Not here: locks between writers (one writer at a time).
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tagpr.errors import DataError
from tagpr.files import read_json, write_json
from tagpr.tasks import Interaction

BUCKETS = 64
"""Users are first spread over this many files, so that sorting needs only a 64th of the data in memory."""
_BATCH = 65536
_INDEX = np.dtype([("hash", "<u8"), ("start", "<i8"), ("stop", "<i8")])
_FIELDS = pa.map_(pa.string(), pa.string())
_SCHEMA = pa.schema([("user_id", pa.string()), ("id", pa.string()), ("date", pa.string()), ("fields", _FIELDS)])

Row = tuple[str, Interaction]


def hash_of(user_id: str) -> int:
    """A stable 64-bit hash. Two users who share one are told apart by the `user_id` column."""
    return int.from_bytes(hashlib.blake2b(user_id.encode("utf-8", "replace"), digest_size=8).digest(), "little")


class ProfileStore:
    """Histories by user id. Open with `ProfileStore(folder)`; a missing folder is an empty store."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._state: dict[str, Any] = {"segments": [], "deleted": {}}
        if (folder / "store.json").is_file():
            try:
                self._state = read_json(folder / "store.json")
            except ValueError:
                raise DataError(f"{folder}/store.json: damaged; build the store again") from None
        self._open()

    def _open(self) -> None:
        self._segments: list[tuple[np.ndarray, pa.Table]] = []
        for name in self._state["segments"]:
            try:
                index = np.load(self.folder / name / "index.npy", mmap_mode="r")
                rows = pa.ipc.open_file(pa.memory_map(str(self.folder / name / "rows.arrow"))).read_all()
            except (OSError, ValueError, pa.ArrowException) as error:
                reason = str(error).splitlines()[0]
                raise DataError(f"{self.folder / name}: damaged segment ({reason}); build the store again") from None
            self._segments.append((index, rows))

    def get(self, user_id: str) -> tuple[Interaction, ...]:
        """The user's interactions, oldest segment first, each in the order it was appended; empty if unknown."""
        found: list[Interaction] = []
        key = np.uint64(hash_of(user_id))
        for position, (index, rows) in enumerate(self._segments):
            if position < self._state["deleted"].get(user_id, 0):
                continue
            place = int(np.searchsorted(index["hash"], key))
            if place == len(index) or index["hash"][place] != key:
                continue
            start, stop = int(index["start"][place]), int(index["stop"][place])
            for row in rows.slice(start, stop - start).to_pylist():
                if row["user_id"] == user_id:
                    found.append(Interaction(row["id"], dict(row["fields"]), row["date"]))
        return tuple(found)

    def append(self, rows: Iterable[Row]) -> None:
        """Add interactions of any users. Memory stays near a 64th of the data, whatever its size."""
        name = self._write_segment(rows)
        self._commit({**self._state, "segments": [*self._state["segments"], name]})

    def _write_segment(self, rows: Iterable[Row]) -> str:
        """A new segment on disk, which `store.json` does not name yet."""
        for left in self.folder.glob(".segment-*.tmp"):  # by a kill
            shutil.rmtree(left, ignore_errors=True)
        number = 1 + max((int(name.split("-")[1]) for name in self._state["segments"]), default=0)
        name = f"segment-{number}"
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        temporary.mkdir(parents=True)
        try:
            _spread(rows, temporary)
            _merge_buckets(temporary)
            shutil.rmtree(self.folder / name, ignore_errors=True)  # left by a kill before store.json named it
            os.replace(temporary, self.folder / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return name

    def delete_user(self, user_id: str) -> None:
        """Forget everything appended about the user so far; gone from disk after `compact`."""
        deleted = {**self._state["deleted"], user_id: len(self._state["segments"])}
        self._commit({**self._state, "deleted": deleted})

    def compact(self) -> None:
        """Merge all segments into one and drop what was deleted."""
        old = self._state["segments"]
        self._commit({"segments": [self._write_segment(self._kept_rows())], "deleted": {}})
        for name in old:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _kept_rows(self) -> Iterator[Row]:
        deleted = dict(self._state["deleted"])
        for position, (_, rows) in enumerate(list(self._segments)):
            for batch in rows.to_batches(max_chunksize=_BATCH):
                for row in batch.to_pylist():
                    if position >= deleted.get(row["user_id"], 0):
                        yield row["user_id"], Interaction(row["id"], dict(row["fields"]), row["date"])

    def _commit(self, state: dict[str, Any]) -> None:
        write_json(self.folder / "store.json", state)
        self._state = state
        self._open()

    def __len__(self) -> int:
        """Interactions stored, those of deleted users included until `compact`."""
        return sum(len(rows) for _, rows in self._segments)


def _spread(rows: Iterable[Row], folder: Path) -> None:
    """Write rows to one file a bucket of user hashes, in arrival order."""
    waiting: list[list[dict[str, Any]]] = [[] for _ in range(BUCKETS)]
    writers: dict[int, pa.RecordBatchFileWriter] = {}

    def flush(bucket: int) -> None:
        if bucket not in writers:
            writers[bucket] = pa.ipc.new_file(str(folder / f"bucket-{bucket:02}.arrow"), _SCHEMA)
        writers[bucket].write_batch(pa.RecordBatch.from_pylist(waiting[bucket], schema=_SCHEMA))
        waiting[bucket] = []

    last, bucket = "", 0
    for user_id, item in rows:
        if user_id != last or not last:
            last, bucket = user_id, hash_of(user_id) * BUCKETS >> 64
        fields = list(item.fields.items())
        waiting[bucket].append({"user_id": user_id, "id": item.id, "date": item.date, "fields": fields})
        if len(waiting[bucket]) >= _BATCH // BUCKETS * 4:
            flush(bucket)
    for bucket in range(BUCKETS):
        if waiting[bucket]:
            flush(bucket)
    for writer in writers.values():
        writer.close()


def _merge_buckets(folder: Path) -> None:
    """Sort each bucket by user hash (stable), write `rows.arrow` and `index.npy`; buckets are hash ranges in order."""
    index: list[np.ndarray] = []
    start = 0
    with pa.ipc.new_file(str(folder / "rows.arrow"), _SCHEMA) as writer:
        for bucket in range(BUCKETS):
            path = folder / f"bucket-{bucket:02}.arrow"
            if not path.is_file():
                continue
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
                users = table["user_id"].to_pylist()
                known = {user: hash_of(user) for user in set(users)}
                hashes = np.fromiter((known[user] for user in users), np.uint64, len(users))
                order = np.argsort(hashes, kind="stable")
                writer.write_table(table.take(pa.array(order)))
            values, first, counts = np.unique(hashes[order], return_index=True, return_counts=True)
            part = np.empty(len(values), _INDEX)
            part["hash"], part["start"], part["stop"] = values, start + first, start + first + counts
            index.append(part)
            start += len(users)
            path.unlink()
    np.save(folder / "index.npy", np.concatenate(index) if index else np.empty(0, _INDEX))
