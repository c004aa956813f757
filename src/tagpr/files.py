"""Writing files so that a kill at any moment leaves either the old content or the new one, never a half."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically (temporary file in the same folder, fsync, rename)."""
    write_parts(path, (text,))


def write_parts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that comes in parts to `path`, as `write_text`: no part is held longer than it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. Key order is kept, so equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object per line, atomically; the rows may come one by one."""
    write_parts(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Read one of our own JSON files."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one of our own JSONL files (files from outside go through `tagpr.data`, which reports bad lines)."""
    with open(path, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def cache_folder() -> Path:
    """Where converted models and replies are kept: `$TAGPR_CACHE`, `$XDG_CACHE_HOME/tagpr`, or `~/.cache/tagpr`."""
    if folder := os.environ.get("TAGPR_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tagpr"


def link_tree(source: Path, target: Path) -> None:
    """A copy of a folder whose files are hard links (copies if the file system has none), renamed when complete."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)

    def link(a: str, b: str) -> None:
        try:
            os.link(os.path.realpath(a), b)  # a hub snapshot holds symbolic links into its blobs
        except OSError:
            shutil.copy2(a, b)

    shutil.copytree(source, temporary, copy_function=link)
    os.replace(temporary, target)


def replace_folder(work: Path, target: Path) -> None:
    """Put the complete folder `work` in the place of `target`, which goes only when the new one is there.

    One process at a time. What a kill leaves of the old one is beside `work`, and goes with the next call.
    """
    replaced = work.with_name(f".{target.name}.replaced.tmp")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.replace(target, replaced)
    os.replace(work, target)
    shutil.rmtree(replaced, ignore_errors=True)


_FULL = ("no space left on device", "disk quota exceeded", "unexpected pos", "pytorchstreamwriter failed")
"""What a full disk is called by the system, by safetensors, and (without a word of a disk) by torch.save."""


def no_space(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error).lower() for words in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def not_permitted(error: OSError) -> bool:
    """Whether an error is a file or folder that may not be written, or a path through something that is no folder."""
    refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
    return error.errno in refused and error.filename is not None


def fingerprint(path: Path) -> str:
    """SHA-256 of what a file holds, or of names and contents of everything in a folder; "" if there is nothing.

    Says whether a stage's input changed, so it reads content and never dates. A file that cannot be read counts
    as absent: the stage that reads it says why.
    """
    digest = hashlib.sha256()
    try:
        if path.is_file():
            with open(path, "rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    except OSError:
        return ""
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\0{fingerprint(file)}\n".encode())
    return digest.hexdigest() if files else ""


def weights_key(folder: Path) -> str:
    """A short name of a checkpoint's content: of all of a weights file up to 256 MiB, else of 4 MiB spread over it."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with open(path, "rb") as stream:
            if size <= 2**28:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
                continue
            for part in range(4096):
                stream.seek(size * part // 4096)
                digest.update(stream.read(1024))
    return digest.hexdigest()[:16]


def model_digests(folder: Path) -> dict[str, str]:
    """A model folder by its content: its weights under "", its small files (settings, tokenizer) under their names."""
    small = [path for ending in ("json", "jinja", "txt", "model") for path in sorted(folder.glob(f"*.{ending}"))]
    return {"": weights_key(folder)} | {path.name: fingerprint(path) for path in small}
