"""`tagpr tasks show`: a card with one rendered example, so that its templates can be judged without data."""

from tagpr.prompts.messages import build_prompt
from tagpr.prompts.settings import PromptSettings
from tagpr.tasks import Example, Interaction, Kind, Task, list_tasks, load_task
from tagpr.tasks.metrics import correctness_metric

_SAMPLE = {
    "title": "On the habits of city foxes",
    "option1": "Urban wildlife: a survey",
    "option2": "A theory of elastic plates",
    "tag": "dystopia",
    "score": "4",
    "rating": "4",
    "section": "libs",
}


def task_lines() -> list[str]:
    """One line per bundled card: name, kind, main metric, description."""
    tasks = [load_task(name) for name in list_tasks()]
    width = max(len(task.name) for task in tasks)
    return [f"{t.name:<{width}}  {t.kind.value:<6}  {t.metrics[0]:<8}  {t.description}" for t in tasks]


def show_task(name_or_path: str, tags: tuple[str, ...]) -> str:
    """The card's settings and its prompt for an invented example (its own words for each field)."""
    task = load_task(name_or_path)
    lines = [f"{task.name}: {task.description}", f"source: {task.source or 'not said'}"]
    facts = {"kind": task.kind.value, "metrics": ", ".join(task.metrics), "labels": ", ".join(task.labels)}
    shown = [*task.input_fields, *([task.output_field] if task.output_field else [])]
    facts["history fields"] = ", ".join(shown)
    facts["retrieval"] = f"{task.query} against {' '.join(task.retrieval_fields or task.input_fields)}"
    facts["rows may say"] = f"input or {task.input_name}, output or {task.output_name}"
    if task.kind is Kind.TEXT:
        good, set_tokens = correctness_metric(task).name, "rouge_tokens" in task.model_fields_set
        measure = f"{task.rouge_mix:g} ROUGE-1 + {1 - task.rouge_mix:g} ROUGE-L" if good == "rouge" else good
        facts["chain kept when"] = f"{measure} >= {task.correct_from:g}"
        facts["ROUGE counts"] = f"{task.rouge_tokens} tokens" if set_tokens else "tokens by the script of the targets"
    lines += [f"{key}: {value}" for key, value in facts.items() if value]
    example = sample_example(task)
    prompt = build_prompt(task, example, example.profile, PromptSettings(), lambda text: len(text) // 4, tags)
    for message in prompt.messages:
        lines += ["", f"--- {message['role']} ---", message["content"]]
    return "\n".join(lines)


def sample_example(task: Task) -> Example:
    """An invented example that has every field the card's templates name."""
    from jinja2 import Environment, meta

    environment = Environment()
    environment.filters["lead"] = str

    def names(source: str) -> list[str]:
        return sorted(meta.find_undeclared_variables(environment.parse(source)))

    def value(name: str, which: str) -> str:
        if name == task.output_field and task.labels:
            return task.labels[0]
        return _SAMPLE.get(name, f"({which} {name})")

    past = {name: value(name, "an earlier") for name in {*names(task.entry), *task.input_fields}}
    asked = {name: value(name, "the new") for name in {*names(task.question), *names(task.query)}}
    profile = tuple(Interaction(str(i), past) for i in range(2))
    text = asked.get("input", asked.get(task.input_name, "(the new text)"))
    return Example("sample", "user", task.name, text, None, profile, fields=asked)
