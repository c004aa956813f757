"""The protocol of systems: the registry, a user's own system, what survives a kill, the prompted systems."""

from pathlib import Path

import pytest

from tagpr.baselines import Context, Cost, Decoding, System, load_system, system_names
from tagpr.baselines.registry import read_options
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RecipeError
from tagpr.llm.tiny import build_tiny_model
from tagpr.tasks import Example, Interaction, load_task


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def examples(n: int = 4) -> list[Example]:
    profile = tuple(
        Interaction(f"p{i}", {"name": f"lib{i}", "synopsis": f"library number {i}", "section": "libs"})
        for i in range(3)
    )
    return [
        Example(
            f"e{i}", f"user{i % 2}", "package-section", f"tool {i}", None, profile,
            fields={"name": f"tool{i}", "synopsis": f"tool {i}"},
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def context(tiny: Path, tmp_path: Path) -> Context:
    return Context(
        model=tiny,
        tasks={"package-section": load_task("package-section")},
        folder=tmp_path / "system",
        vocabulary=load_vocabulary(),
        decoding=Decoding(max_new_tokens=12, answer_tokens=4),
    )


def test_every_name_of_the_registry_is_a_system() -> None:
    for name in system_names():
        assert issubclass(load_system(name), System)


def test_unknown_names_say_what_is_near() -> None:
    with pytest.raises(RecipeError, match="did you mean 'rag-r'"):
        load_system("rag-rr")
    with pytest.raises(RecipeError, match=r"no file .*mine\.py"):
        load_system("mine.py:Mine")
    with pytest.raises(RecipeError, match="no class derived"):
        load_system("tagpr.errors:RunError")


def test_options_are_checked() -> None:
    with pytest.raises(RecipeError, match="systems: rag: unknown option 'epochs'; known: it has none"):
        read_options("rag", load_system("rag"), {"epochs": 3})


@pytest.mark.parametrize("name", ["zero-shot", "zero-shot-r", "rag", "rag-r"])
def test_prompted_systems_answer_and_count(name: str, context: Context) -> None:
    system = load_system(name)(context)
    answers = system.predict(examples())
    assert len(answers) == 4 and all(isinstance(answer, str) for answer in answers)
    assert 0 < system.cost.completion_tokens <= 4 * (12 if system.reasons else 4)
    assert system.cost.prompt_tokens > 0 and system.cost.trained_parameters == 0


def test_prompts_differ_as_the_names_say(context: Context) -> None:
    task = context.tasks["package-section"]
    texts = {}
    for name in ("zero-shot", "zero-shot-r", "rag", "rag-r"):
        system = load_system(name)(context)
        prompt = system.prompts.build(task, examples()[0], system.with_profile)
        texts[name] = "\n".join(message["content"] for message in prompt.messages)
    assert ["library number" in text for text in texts.values()] == [False, False, True, True]
    assert ["<think>" in text for text in texts.values()] == [False, True, False, True]


def test_once_makes_a_thing_once_and_remembers_its_cost(context: Context) -> None:
    class Dear(System):
        calls = 0

        def fit(self, train):
            def make(out: Path) -> None:
                Dear.calls += 1
                (out / "checkpoints").mkdir(exist_ok=True)
                if Dear.calls == 1:
                    (out / "checkpoints" / "half").touch()
                    raise KeyboardInterrupt
                assert (out / "checkpoints" / "half").exists()  # what the killed call left
                self.cost.trained_tokens += 7

            self.once("model", make)

        def predict(self, examples):
            return ["libs" for _ in examples]

    with pytest.raises(KeyboardInterrupt):
        Dear(context).fit([])
    for _ in range(2):
        system = Dear(context)
        system.fit([])
        assert system.cost.trained_tokens == 7
    assert Dear.calls == 2
    assert sorted(path.name for path in (context.folder / "model").iterdir()) == ["cost.json"]


def test_costs_add_up() -> None:
    cost = Cost(trained_tokens=2)
    cost.add(Cost(trained_tokens=3, seconds=1.5))
    assert cost == Cost(trained_tokens=5, seconds=1.5)
