"""Run one system: fit it, let it answer the held-out examples, keep everything; a failure becomes a row that says why.

    FOLDER/fingerprint.json          what the system was fitted from; with another content it is fitted again
    FOLDER/work/                     the system's own (models, features)
    FOLDER/fit.json                  the cost of fitting, once it is done
    FOLDER/predictions/TASK.jsonl    one row per example
    FOLDER/official/TASK.json        the same in LaMP's output format
    FOLDER/failure.txt               the traceback of the last failure

What is there is not made again.
"""

import hashlib
import json
import logging
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from tagpr.data.split import Splits
from tagpr.errors import TagPRError
from tagpr.evaluation.chunks import is_complete
from tagpr.evaluation.heldout import Heldout, answer, answer_and_keep, token_count
from tagpr.evaluation.official import write_official
from tagpr.evaluation.predictions import Prediction
from tagpr.evaluation.scoring import SystemAnswers
from tagpr.files import no_space, read_json, weights_key, write_json, write_text
from tagpr.memory import give_back_memory
from tagpr.plugins import code_digest
from tagpr.progress import Progress
from tagpr.settings import Settings
from tagpr.systems.context import Chains, Context, Trained
from tagpr.systems.cost import Cost
from tagpr.systems.protocol import System

T = TypeVar("T")
logger = logging.getLogger(__name__)


class SystemRunner:
    """Runs systems on the same examples, one folder each under `out`."""

    def __init__(
        self,
        out: Path,
        context: Context,
        data: Mapping[str, Splits],
        blocks: Mapping[str, object],
        common: Mapping[str, object],
        chunk: int,
        progress: Progress,
        base: Path,
    ) -> None:
        """context: a template whose `folder` and `progress` are filled in per system. data: the examples by task.
        blocks: the recipe's, JSON-able, by name; common: what every fit depends on. base: the recipe's folder.
        """
        self.out, self.context, self.data = out, context, data
        how = context.decoding  # rows side by side change no text, so they are left out
        self.blocks = {**blocks, "decoding": [how.max_new_tokens, how.answer_tokens, how.temperature]}
        self.common, self.chunk, self.progress, self.base = common, chunk, progress, base

    def run(
        self,
        name: str,
        spec: str,
        kind: type[System[Any]],
        options: Settings,
        trained: Mapping[str, Trained] | None = None,
        chains: Chains | None = None,
    ) -> SystemAnswers:
        """Fit and run one system, as far as that is not done. Never raises for what goes wrong inside the system.

        trained, chains: what the system needs of the run (`System.variants`, `System.learns_chains`).
        """
        folder = self.out / _folder_name(name)
        depends = {block: self.blocks[block] for block in kind.depends}
        fitted_from = {"common": self.common, "depends": depends, "system": spec}
        fitted_from["source"] = code_digest(spec, "systems", self.base)
        fitted_from["options"] = options.model_dump(mode="json")
        # the same blocks train other weights and make other chains if a file that they name was edited
        fitted_from["trained"] = {name: weights_key(made.folder) for name, made in (trained or {}).items()}
        fitted_from["chains"] = None if chains is None else _digest([[*key, *texts] for key, texts in chains.items()])
        digest = _digest(fitted_from)
        if folder.is_dir() and _read(folder / "fingerprint.json") != fitted_from:
            shutil.rmtree(folder)
        write_json(folder / "fingerprint.json", fitted_from)
        (folder / "failure.txt").unlink(missing_ok=True)
        context = replace(
            self.context,
            folder=folder / "work",
            shared=self.out / "shared" / _digest({"common": self.common, "depends": depends})[:12],
            trained=trained or {},
            chains=chains,
            progress=lambda done, total, note="": self.progress(done, total, f"{name} {note}".strip()),
        )
        found = SystemAnswers(name, spec, getattr(options, "reasons", kind.reasons))
        try:
            self._run(found, folder, kind, options, context, digest)
        except Exception as error:  # whatever a system does, the other rows are kept
            self.failed(found, error)
        give_back_memory()
        return found

    def failed(self, found: SystemAnswers, error: Exception) -> SystemAnswers:
        """Note why a system failed; the traceback goes into its folder."""
        path = self.out / _folder_name(found.name) / "failure.txt"
        found.failure = one_line(error)
        if not no_space(error):  # a full disk takes no traceback either
            write_text(path, "".join(traceback.format_exception(error)))
        logger.info("%s failed: %s (%s)", found.name, found.failure, path)
        return found

    def _run(
        self,
        found: SystemAnswers,
        folder: Path,
        kind: type[System[Any]],
        options: Settings,
        context: Context,
        digest: str,
    ) -> None:
        jobs = {name: (folder / "predictions" / f"{name}.jsonl", self._fingerprint(name, digest)) for name in self.data}
        for path in (context.folder, context.shared):
            path.mkdir(parents=True, exist_ok=True)
        system = kind(context, options)
        jobs = {name: job for name, job in jobs.items() if system.covers(self.data[name].task)}
        fitted = folder / "fit.json"
        if not fitted.is_file() or not all(is_complete(*job) for job in jobs.values()):
            self._fit(system, fitted)
        found.fit = Cost(**read_json(fitted))
        for name, (path, fingerprint) in jobs.items():
            heldout = Heldout(self.data[name].task, self.data[name].heldout)
            rows = answer_and_keep(
                system,
                heldout,
                path,
                fingerprint,
                self.chunk,
                lambda picked, report, heldout=heldout: self._answer(system, heldout, picked),
                progress=lambda done, total, note, name=name: context.progress(done, total, name),
            )
            cost, notes = Cost(), Counter[str]()
            for row in rows:
                cost.add(Cost(**row.extra.get("cost", {})))
                notes.update(row.extra.get("notes", {}))
            write_official(folder / "official", heldout.task, rows)
            found.predictions[name], found.answer[name], found.notes[name] = rows, cost, dict(notes)

    def _fit(self, system: System[Any], fitted: Path) -> None:
        train = [example for splits in self.data.values() for example in splits.train]
        cost, _ = _timed(system, lambda: system.fit(train))
        if not fitted.is_file():
            write_json(fitted, asdict(cost))

    def _answer(self, system: System[Any], heldout: Heldout, picked: list[int]) -> list[Prediction]:
        """Predictions of one chunk; the first row carries what the chunk cost and the system's notes about it."""
        system.notes.clear()
        count = token_count(self.context.tokenizer)
        cost, rows = _timed(system, lambda: answer(system.predict, heldout, self.context.vocabulary, count, picked))
        extra: dict[str, object] = {"cost": asdict(cost)}
        if system.notes:
            extra["notes"] = dict(system.notes)
        rows[0] = replace(rows[0], extra=extra)
        return rows

    def _fingerprint(self, name: str, digest: str) -> str:
        task, heldout = self.data[name].task, self.data[name].heldout
        value = [digest, task.model_dump(mode="json"), asdict(self.context.decoding), self.chunk]
        return _digest([*value, *[[example.id, example.input, example.target] for example in heldout]])[:12]


def _timed(system: System[Any], work: Callable[[], T]) -> tuple[Cost, T]:
    """What a piece of a system's work cost, time included, and its result."""
    before, started, cpu = replace(system.cost), time.monotonic(), time.process_time()
    result = work()
    cost = Cost.difference(system.cost, before)
    cost.seconds += time.monotonic() - started
    cost.cpu_seconds += time.process_time() - cpu
    return cost, result


def one_line(error: BaseException) -> str:
    """Why something failed, in one line."""
    if no_space(error):
        return "no space left on the disk; free some, and the same command tries it again"
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, TagPRError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")


def _folder_name(name: str) -> str:
    """A row's name as a folder name; names that differ stay different."""
    safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name.replace("w/o", "without"))
    return safe if safe == name or name.startswith("w/o-") else f"{safe}-{_digest(name)[:6]}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def _read(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
