"""An RL stage's rows as verl reads them: chat messages whose template gives the very token ids of our prompts."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet

from tagpr.engine.models import load_tokenizer
from tagpr.errors import RunError
from tagpr.prompts.ids import template_messages
from tagpr.runs import Run
from tagpr.training.rows import TrainingRow

_MESSAGE = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
SCHEMA = arrow.schema(
    [
        ("data_source", arrow.string()),
        ("prompt", arrow.list_(_MESSAGE)),
        ("ability", arrow.string()),
        ("reward_model", arrow.struct([("style", arrow.string()), ("ground_truth", arrow.string())])),
        (
            "extra_info",
            arrow.struct(
                [
                    ("index", arrow.int64()),
                    ("split", arrow.string()),
                    ("user_id", arrow.string()),
                    ("task", arrow.string()),
                    ("example_id", arrow.string()),
                ]
            ),
        ),
    ]
)
"""verl's columns. Our reward manager reads `reward_model` and `extra_info`."""


ROW_GROUP = 1000
"""Rows in memory at once."""


def write_rows(run: Run, rows: Sequence[TrainingRow], split: str, path: Path, policy: Path) -> int:
    """Write rows of a stage to a parquet file; returns the tokens of the longest prompt.

    Every row is put through the chat template of the checkpoint `policy`, which verl will use. Raises RunError if one
    does not come out as the token ids that the other engines train on; then there is no file.
    """
    tokenizer = load_tokenizer(policy)
    examples = {(name, example.id): example for name, splits in run.data.items() for example in splits.train}
    tasks = {name: splits.task for name, splits in run.data.items()}
    work = path.with_name(f".{path.name}.tmp")
    longest = 0
    with parquet.ParquetWriter(work, SCHEMA, compression="zstd") as writer:
        for start in range(0, len(rows), ROW_GROUP):
            table = []
            for index, row in enumerate(rows[start : start + ROW_GROUP], start):
                prompt = run.prompts.build(tasks[row.task], examples[row.task, row.example_id])
                messages = template_messages(prompt.messages, tokenizer)
                ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
                if list(ids) != list(row.prompt_ids):
                    raise RunError(
                        f"example {row.example_id!r} of task '{row.task}': the chat template of {policy} reads its "
                        "prompt otherwise than the backbone's; train with rl.engine=trl"
                    )
                longest = max(longest, len(row.prompt_ids))
                table.append(_row(row, messages, index, split))
            writer.write_table(arrow.Table.from_pylist(table, schema=SCHEMA))
    os.replace(work, path)
    return longest


def _row(row: TrainingRow, messages: Sequence[Mapping[str, str]], index: int, split: str) -> dict[str, object]:
    info = {"index": index, "split": split, "user_id": row.user_id, "task": row.task, "example_id": row.example_id}
    return {
        "data_source": row.task,
        "prompt": [{"role": message["role"], "content": message["content"]} for message in messages],
        "ability": "personalization",
        "reward_model": {"style": "rule", "ground_truth": row.target},
        "extra_info": info,
    }
