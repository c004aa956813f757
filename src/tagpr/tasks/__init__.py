"""Tasks: `Task`, `Interaction`, `Example`, the YAML cards and the metrics."""

from tagpr.tasks.cards import list_tasks, load_task
from tagpr.tasks.types import Example, Interaction, Kind, Task

__all__ = ["Example", "Interaction", "Kind", "Task", "list_tasks", "load_task"]
