"""Base by likelihood: labels ranked as an independent forward pass per label ranks them, with and without the prior."""

from dataclasses import replace

import pytest
import torch

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RunError
from tagpr.systems import Context, load_system
from tagpr.tasks import Example, Interaction, load_task

PROFILE = tuple(Interaction(f"p{i}", {"name": f"l{i}", "synopsis": f"tool {i}", "section": "libs"}) for i in range(3))


def questions(prefix: str, n: int) -> list[Example]:
    return [
        Example(f"{prefix}{i}", f"u{i}", "package-section", f"{prefix} {i}", None, PROFILE[:i], fields={"name": prefix})
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    task = load_task("package-section")
    # one label begins another: its likelihood must not be counted without its end
    task = task.model_copy(update={"labels": ("net", "network", "libs", "video", "x")})
    return Context(
        model=build_tiny_model(tmp_path_factory.mktemp("tiny")),
        tasks={"package-section": task, "package-synopsis": load_task("package-synopsis")},
        folder=tmp_path_factory.mktemp("systems") / "own",
        vocabulary=load_vocabulary(),
    )


def likelihoods(context: Context, system, asked: list[Example]) -> list[list[float]]:
    """One forward pass per question and label."""
    model, tokenizer = load_causal_lm(context.model), load_tokenizer(context.model)
    rows = []
    for example in asked:
        prompt = system.prompt_ids(example)
        rows.append([])
        for label in context.tasks[example.task].labels:
            own = [*tokenizer(label, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *own]])).logits[0].float()
            logps = logits.log_softmax(-1)
            rows[-1].append(sum(logps[len(prompt) - 1 + i, token].item() for i, token in enumerate(own)))
    return rows


def test_labels_are_ranked_by_the_likelihood_of_the_whole_answer(context: Context) -> None:
    system, asked = load_system("base-likelihood")(context), questions("tool", 4)
    expected = likelihoods(context, system, asked)
    assert torch.allclose(torch.tensor(system.scores(asked)), torch.tensor(expected), atol=0.1)
    labels = context.tasks["package-section"].labels
    answers = system.predict(asked)
    assert [a.text for a in answers] == [labels[max(range(5), key=row.__getitem__)] for row in expected]
    assert set(answers[2].seen.entries) == {"p0", "p1"}
    assert system.cost.prompt_tokens > 0 and not system.cost.completion_tokens


def test_the_prior_is_the_mean_over_training_questions_and_is_kept(context: Context) -> None:
    train, asked = questions("train", 6), questions("tool", 4)
    own = replace(context, folder=context.folder.with_name("calibrated"))
    kind = load_system("base-calibrated")
    system = kind(own, kind.Options(questions=4))
    system.fit(train)
    expected = torch.tensor(likelihoods(own, system, asked))
    prior = torch.tensor(likelihoods(own, system, train[:4])).mean(0)
    assert torch.allclose(
        torch.tensor(system.scores(asked)), expected - prior, atol=0.1
    )  # bf16 on CPUs that have it; the sums are about -20
    again = kind(own, kind.Options(questions=4))
    again.fit([])  # the prior is on disk; its cost is remembered
    assert again.scores(asked) == system.scores(asked) and again.cost.prompt_tokens
    assert {answer.text for answer in again.predict(asked)} <= set(own.tasks["package-section"].labels)


def test_only_tasks_with_labels_are_covered_and_a_prior_needs_questions(context: Context) -> None:
    own = replace(context, folder=context.folder.with_name("none"))
    system = load_system("base-calibrated")(own)
    assert [system.covers(task) for task in own.tasks.values()] == [True, False]
    system.fit([])
    with pytest.raises(RunError, match="package-section: no training question"):
        system.predict(questions("tool", 1))
