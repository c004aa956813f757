"""Rollouts of the three teachers: the heuristic's tagged chains, tagged ones from a file, a model's raw chains.

Each sees the history and the question, never the reference. A teacher model reasons untagged.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tagpr.chains.asking import fill
from tagpr.chains.grammar import parse_response, write_completion
from tagpr.chains.heuristic.teacher import HeuristicTeacher
from tagpr.chains.steps import Row
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.clients.types import Refusal, Reply, Request
from tagpr.data.formats.jsonl import json_lines
from tagpr.data.rejects import Rejects
from tagpr.engine.cached_model import CachedModel
from tagpr.errors import DataError
from tagpr.progress import Progress
from tagpr.prompts.cuts import Cuts, as_shown
from tagpr.tasks.types import Example, Interaction, Task


class ShownPrompt(Protocol):
    """What stage 0 needs of a prompt (`tagpr.prompts.Prompt` is one)."""

    @property
    def messages(self) -> Sequence[Mapping[str, str]]:
        """The chat messages."""
        ...

    @property
    def entries(self) -> tuple[Interaction, ...]:
        """The profile entries that the messages show."""
        ...

    @property
    def cuts(self) -> Cuts:
        """What the messages show of texts that they cut."""
        ...


_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


def teacher_rollouts(
    teacher: CachedModel,
    samples: int,
    tasks: Mapping[str, Task],
    drawn: Sequence[Row],
    examples: Mapping[tuple[str, str], Example],
    prompt: Callable[[Task, Example], ShownPrompt],
    report: Progress,
) -> tuple[list[Row], dict[str, int]]:
    """`samples` rows per example with the raw chain and its answer; refusals and cut chains are counted."""
    requests: list[Request] = []
    for row in drawn:
        task = tasks[row["task"]]
        shown = [m for m in prompt(task, examples[row["task"], row["example_id"]]).messages if m["role"] != "system"]
        messages = ({"role": "system", "content": fill("teacher", task=task)}, *shown)
        requests += [Request(messages, sample) for sample in range(samples)]
    replies = teacher.generate(requests, lambda done, total, note: report(done, total, f"rollouts {note}"))
    rows: list[Row] = []
    notes = Counter[str]()
    for number, reply in enumerate(replies):
        row, sample = drawn[number // samples], number % samples
        if isinstance(reply, Refusal):
            notes[f"refused: {reply.kind}"] += 1
        elif not reply.finished:
            notes["cut by max_new_tokens"] += 1
        else:
            chain, answer = chain_and_answer(reply)
            if chain:
                rows.append(row | {"sample": sample, "chain": chain, "answer": answer, "completion": ""})
            else:
                notes["no reasoning shown"] += 1
    return rows, dict(notes)


def chain_and_answer(reply: Reply) -> tuple[str, str]:
    """The raw chain and the answer of a teacher's reply, `<answer>` marks or not.

    A model without a reasoning field reasons in its content: what precedes `<answer>` is the chain then.
    """
    marked = _ANSWER.search(reply.content)
    answer = (marked[1] if marked else reply.content).strip()
    if reply.reasoning:
        return reply.reasoning, answer
    return (reply.content[: marked.start()].strip(), answer) if marked else ("", answer)


def written_rollouts(
    path: Path, samples: int, drawn: Sequence[Row], vocabulary: Vocabulary
) -> tuple[list[Row], dict[str, int]]:
    """The first `samples` tagged completions that the file has for each drawn example, in its order.

    `vocabulary`: the tags they were written with. Raises DataError naming file and row if a row is no completion.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for line, row in json_lines(path, Rejects()):
        if not all(isinstance(row.get(key), str) for key in ("task", "example_id", "completion")):
            raise DataError(f"{path}:{line}: needs task, example_id and completion, all text")
        found.setdefault((str(row["task"]), str(row["example_id"])), []).append(str(row["completion"]))
    rows: list[Row] = []
    for row in drawn:
        for sample, text in enumerate(found.get((row["task"], row["example_id"]), ())[:samples]):
            answer = parse_response(text, vocabulary).answer
            rows.append(row | {"sample": sample, "chain": "", "answer": answer, "completion": text})
    without = len(drawn) - len({(r["task"], r["example_id"]) for r in rows})
    return rows, {
        "examples without a completion": without,
        "completions not used": sum(map(len, found.values())) - len(rows),
    }


def heuristic_rollouts(
    samples: int,
    teachers: Mapping[str, HeuristicTeacher],
    drawn: Sequence[Row],
    examples: Mapping[tuple[str, str], Example],
    prompt: Callable[[Task, Example], ShownPrompt],
    tags: Mapping[str, str],
    report: Progress,
) -> list[Row]:
    """`samples` tagged completions for each drawn example.

    teachers: by task name. tags: how each of the paper's tags is called here.
    """
    paper = load_vocabulary()
    rows: list[Row] = []
    for number, row in enumerate(drawn):
        teacher, example = teachers[row["task"]], examples[row["task"], row["example_id"]]
        shown = prompt(teacher.task, example)
        completions = teacher.sample(*as_shown(example, shown.entries, shown.cuts), samples)
        for sample, completion in enumerate(completions):
            response = parse_response(completion, paper)
            if any(tags[name] != name for name in paper.names):
                completion = write_completion([(tags[s.tag], s.text) for s in response.segments], response.answer)
            rows.append(row | {"sample": sample, "chain": "", "answer": response.answer, "completion": completion})
        if number % 64 == 0 or number + 1 == len(drawn):
            report(number + 1, len(drawn), "rollouts")
    return rows
