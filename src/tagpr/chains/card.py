"""The dataset card of a folder of chains: what it holds, how it came about, and its path for `datasets`."""

from pathlib import Path

from tagpr.chains.settings import ChainSettings
from tagpr.chains.steps import Funnel
from tagpr.chains.vocabulary import Vocabulary
from tagpr.files import write_text


def write_card(folder: Path, funnel: Funnel, vocabulary: Vocabulary, settings: ChainSettings) -> None:
    """Write `README.md`; its front matter makes `datasets.load_dataset(folder)` read `chains.parquet` alone."""
    rules = {"heuristic": "heuristic rules, no language model", "written": f"written before ({settings.written})"}
    teacher = rules[settings.teacher] if isinstance(settings.teacher, str) else settings.teacher.model
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: chains.parquet",
        "---",
        "# Tagged reasoning chains",
        "",
        "Each row is one completion for one training example: `<think>`, tagged steps, `</think>`, the answer. Every",
        "answer passed the accuracy filter, every chain the format filter. Texts quoted in chains come from the users'",
        "histories: the terms of the source data apply.",
        "",
        f"- teacher: {teacher}",
        f"- rollouts per example: {settings.samples}",
        f"- judge: {settings.judge.model if settings.judge else 'none'}",
        f"- tagger: {settings.tagger.model if settings.tagger else 'none'}",
        "",
        "| column | meaning |",
        "|---|---|",
        "| example_id, task, user_id | which training example |",
        "| sample | number of the rollout |",
        "| completion | the whole text to learn |",
        "| answer | its answer |",
        "| score | 1 for a right answer; for text tasks the mean of ROUGE-1 and ROUGE-L F |",
        "| judge | the judge's total, 4 to 20; null without a judge |",
        "| tags | tag of every step |",
        "",
        "## How many survived each step",
        "",
        "| step | unit | rows | by task | dropped |",
        "|---|---|---|---|---|",
    ]
    for step in funnel.steps:
        by_task = ", ".join(f"{name} {count}" for name, count in step.tasks.items())
        dropped = ", ".join(f"{reason} {count}" for reason, count in step.notes.items())
        name = step.step + (" (skipped)" if step.skipped else "")
        lines.append(f"| {name} | {step.unit} | {step.total} | {by_task} | {dropped} |")
    lines += ["", "## Tags", "", "| tag | definition |", "|---|---|"]
    lines += [f"| {tag.name} | {tag.definition} |" for tag in vocabulary]
    write_text(folder / "README.md", "\n".join(lines) + "\n")
