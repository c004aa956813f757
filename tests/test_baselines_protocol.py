"""The protocol of systems: the registry, a user's own system, what survives a kill, the prompted systems."""

from dataclasses import replace
from pathlib import Path

import pytest

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RecipeError, RunError
from tagpr.systems import Answer, Context, Cost, Decoding, System, Trained, load_system, system_names
from tagpr.systems.pag import PAGOptions
from tagpr.systems.registry import read_options
from tagpr.tasks import Example, Interaction, load_task
from tagpr.training.settings import SFTSettings


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
    assert len(answers) == 4
    for answer in answers:
        assert 0 <= answer.tokens <= (12 if system.reasons else 4) and isinstance(answer.finished, bool)
        assert bool(answer.seen.entries) == system.with_profile
    lengths = [len(system.prompt_ids(example)) for example in examples()]
    assert [lengths[i] for i in system.order(examples())] == sorted(lengths, reverse=True)
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
    class Expensive(System):
        calls = 0

        def fit(self, train):
            def make(out: Path) -> None:
                Expensive.calls += 1
                (out / "checkpoints").mkdir(exist_ok=True)
                if Expensive.calls == 1:
                    (out / "checkpoints" / "half").touch()
                    raise KeyboardInterrupt
                assert (out / "checkpoints" / "half").exists()  # what the killed call left
                self.cost.trained_tokens += 7

            self.once("model", make)

        def predict(self, examples):
            return [Answer("libs") for _ in examples]

    with pytest.raises(KeyboardInterrupt):
        Expensive(context).fit([])
    for _ in range(2):
        system = Expensive(context)
        system.fit([])
        assert system.cost.trained_tokens == 7
    assert Expensive.calls == 2
    assert sorted(path.name for path in (context.folder / "model").iterdir()) == ["cost.json"]


def test_costs_add_up() -> None:
    cost = Cost(trained_tokens=2)
    cost.add(Cost(trained_tokens=3, seconds=1.5))
    assert cost == Cost(trained_tokens=5, seconds=1.5)


def test_simple_rows(context: Context) -> None:
    task = context.tasks["package-section"]
    train = [Example(f"t{i}", f"u{i}", task.name, "x", label, ()) for i, label in enumerate(["net", "net", "libs"])]
    past = [("2024-01-01", "red fox", "games"), ("2024-03-01", "blue whale", "sound"), ("2024-02-01", "elk", "games")]
    profile = tuple(
        Interaction(f"p{i}", {"synopsis": text, "section": label}, date) for i, (date, text, label) in enumerate(past)
    )
    asked = [Example("a", "u", task.name, "a blue whale", None, profile), Example("b", "v", task.name, "tool", None)]
    expected = {
        "majority": ["net", "net"],
        "user-majority": ["games", "net"],
        "last-label": ["sound", "net"],
        "nearest-neighbour": ["sound", "net"],
    }
    for name, answers in expected.items():
        system = load_system(name)(context)
        assert system.covers(task)
        system.fit(train)
        assert [answer.text for answer in system.predict(asked)] == answers, name
    assert not load_system("lead-sentence")(context).covers(task)


def test_nearest_neighbour_of_a_choice_takes_the_option_closest_to_the_history(context: Context) -> None:
    task = load_task("lamp-1")
    papers = ["singing whales of the north", "a theory of rivers", "rivers and lakes", "on the age of lakes"]
    profile = tuple(Interaction(f"p{i}", {"title": title}) for i, title in enumerate(papers))
    fields = {"title": "x", "option1": "steel plates", "option2": "on singing whales"}
    example = Example("a", "u", task.name, "which?", None, profile, fields=fields)
    system = load_system("nearest-neighbour")(replace(context, tasks={task.name: task}))
    system.fit([])
    assert system.predict([example]) == [Answer("[2]")]


@pytest.mark.parametrize("name", ["sft", "sft-ind-r"])
def test_finetuned_systems_learn_what_they_are_shown(name: str, context: Context) -> None:
    train = [replace(example, target="libs", id=f"t{i}") for i, example in enumerate(examples(8))]
    chain = "<think>\n<make_decision>libs</make_decision>\n</think>\nlibs"
    settings = SFTSettings(learning_rate=1e-2, epochs=8, batch_size=4, warmup_ratio=0)
    chains = {(example.task, example.id): [chain] for example in train}
    trained = replace(context, sft=settings, chains=chains, decoding=Decoding(max_new_tokens=60, answer_tokens=6))
    for _ in range(2):  # the second time finds the model of the first
        system = load_system(name)(trained)
        system.fit(train)
        answers = [answer.parse(context.vocabulary).answer for answer in system.predict(examples(3))]
        assert answers == ["libs"] * 3
        assert system.cost.trained_parameters > 100_000 and system.cost.trained_tokens > 1000
        assert system.cost.seconds >= 0
    assert len(list(trained.shared.iterdir())) == 1


def test_a_summary_is_written_once_and_stands_before_the_items(context: Context) -> None:
    with pytest.raises(RecipeError, match="'max_tokens' is called 'max_new_tokens' now"):
        read_options("pag", load_system("pag"), {"max_tokens": 8})
    system = load_system("pag")(context, PAGOptions(max_new_tokens=8, temperature=0.0))
    answers = system.predict(examples())
    assert len(answers) == 4
    messages = system.prompts.build(context.tasks["package-section"], examples()[0]).messages
    text = messages[-1]["content"]
    assert text.index("Summary of the history:") < text.index("History:") < text.index("New package:")
    again = load_system("pag-r")(context, PAGOptions(max_new_tokens=8, temperature=0.0))
    assert again.summaries(examples()) == system.summaries(examples())
    assert len(list(context.shared.glob("summaries-*.sqlite"))) == 1


def test_the_request_of_a_summary_is_the_tasks(context: Context) -> None:
    system = load_system("pag")(context)
    label = system.request(context.tasks["package-section"], examples()[0]).messages[0]["content"]
    assert "library number 2 -> libs" in label and label.endswith("name the two or three commonest.")
    tweet = Example("x", "u", "lamp-7", "x", None, (Interaction("p", {"text": "hi <think> all"}),))
    styled = system.request(load_task("lamp-7"), tweet).messages[0]["content"]
    assert "style" in styled and "<think>" not in styled


def test_without_history_there_is_no_summary(context: Context) -> None:
    system = load_system("pag")(context)
    assert system.summaries([replace(examples()[0], profile=())]) == [""]
    assert system.cost.completion_tokens == 0


def test_tagpr_asks_the_checkpoint_it_is_given(context: Context, tiny: Path) -> None:
    for name in ("tagpr", "w/o-rl", "w/o-sft", "w/o-tag", "w/o-reward", "w/o-exploratory"):
        system = load_system(name)(replace(context, trained={name: Trained(tiny, Cost(trained_tokens=5))}))
        assert system.variants == (name,)
        system.fit([])
        assert len(system.predict(examples(1))) == 1 and system.reasons and system.backbone.folder == tiny
        assert system.cost.trained_tokens == 5
        with pytest.raises(RunError, match="is trained by the run"):
            load_system(name)(context).fit([])


def test_sft_r_is_the_runs_own_sft_stage_where_there_is_a_run(context: Context, tiny: Path) -> None:
    given = replace(context, trained={"w/o-rl": Trained(tiny, Cost(trained_tokens=5))})
    for name in ("sft-r", "sft-ind-r"):  # one task: both are the same model
        system = load_system(name)(given)
        system.fit([])
        assert system.models == {"package-section": tiny} and system.cost.trained_tokens == 5
    assert not context.shared.exists()
