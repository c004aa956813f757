"""The questions beyond the paper: does it over-use the profile, reason from this user, quote what exists; who loses?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tagpr.chains.grammar import parse_response
from tagpr.evaluation.analyses import Analyses, TaskAnalyses, exchange_labels, has_labels, profile_use
from tagpr.evaluation.breakdown import by_history_length, by_seen_user, who_loses
from tagpr.evaluation.evidence import evidence
from tagpr.evaluation.interventions import ChainTests, chain_test, interventions, precision
from tagpr.evaluation.predictions import Prediction, shown_to
from tagpr.evaluation.questions import Question, with_other_history, without_history
from tagpr.experiments.interview import Interview
from tagpr.report import write_report
from tagpr.runs import Run
from tagpr.runs.stage import locked
from tagpr.statistics import Bootstrap


def analyse(run: Run) -> Path:
    """Profile use, counterfactuals, quoted evidence, cold start, who loses. Returns the report's page."""
    checkpoints = run.checkpoints(("base", "final"))
    with locked(run.folder.path), run.show("practitioner") as progress:
        found = practitioner(Interview(run, checkpoints, progress))
        return publish(run, replace(known(run), practitioner=found))


def known(run: Run) -> Analyses:
    """What has been analysed so far."""
    return Analyses.read(run.folder.analyses / "analyses.json")


def publish(run: Run, analyses: Analyses) -> Path:
    """Write the analyses and a report that shows them; returns its page."""
    analyses.write(run.folder.analyses / "analyses.json")
    return write_report(run.folder.path, run.folder.analyses)


def practitioner(interview: Interview) -> dict[str, TaskAnalyses]:
    """The questions beyond the paper, by task: profile use, counterfactual, evidence, cold start, losers."""
    systems = [name for name in ("base", "final") if name in interview.checkpoints]
    per = {
        (system, name): interview.answers("practitioner", system, name, _conditions(interview, system, name))
        for system in systems
        for name in interview.data
    }
    found = {}
    for name, splits in interview.data.items():
        heldout = interview.heldout(name)
        own = {system: per[system, name]["own"] for system in systems}
        block = TaskAnalyses(
            profile_use={
                system: {
                    condition: profile_use(splits.task, own[system], rows)
                    for condition, rows in per[system, name].items()
                    if condition != "own"
                }
                for system in systems
            },
            evidence={system: evidence(own[system], heldout) for system in systems},
            chain={"final": chain_tests(interview, "final", name, own["final"])} if "final" in systems else {},
        )
        if len(systems) == 2:
            final, base = own["final"], own["base"]
            block = replace(
                block,
                by_history_length=by_history_length(final, base, heldout),
                by_seen_user=by_seen_user(final, base, {example.user_id for example in splits.train}),
                who_loses=who_loses(final, base),
            )
        found[name] = block
    return found


def chain_tests(interview: Interview, system: str, name: str, own: Sequence[Prediction]) -> ChainTests:
    """Causal tests of a system's chains (`tagpr.evaluation.interventions`). own: its answers to held-out questions."""
    task, heldout = interview.data[name].task, interview.heldout(name)
    questions = {question.example.id: question for question in interview.questions(system, name, heldout)}
    inputs = {example.id: example.input for example in heldout}
    forced = interventions(task, own, interview.context.vocabulary, inputs, interview.seed)
    asked = {
        kind: [interview.go_on(system, questions[item.id], item.text) for item in items]
        for kind, items in forced.items()
    }
    answers = interview.answers("chain tests", system, name, asked) if asked else {}
    by_id = {row.id: row for row in own}
    responses = [parse_response(row.completion, interview.context.vocabulary) for row in own]
    shown = [shown_to(task, example, row.seen) for example, row in zip(heldout, own, strict=True)]
    draws = Bootstrap(seed=interview.seed)
    return ChainTests(
        {kind: chain_test(task, by_id, items, answers[kind], draws) for kind, items in forced.items()},
        precision(responses, shown),
        precision(responses, [*shown[1:], *shown[:1]]),
    )


def _conditions(interview: Interview, system: str, name: str) -> dict[str, list[Question]]:
    """The held-out questions with the own history, another user's, none, and the own with its labels exchanged."""
    task, heldout = interview.data[name].task, interview.heldout(name)
    other, donors = with_other_history(heldout, interview.seed)
    donor = {example.id: donor for example, donor in zip(heldout, donors, strict=True)}
    asked = {
        "own": interview.questions(system, name, heldout),
        "other": interview.questions(system, name, other, history=lambda example: f"other:{donor[example.id]}"),
        "none": interview.questions(system, name, without_history(heldout), history=lambda example: "none"),
    }
    if has_labels(task):
        exchanged = exchange_labels(task, heldout, interview.seed)
        asked["exchanged"] = interview.questions(system, name, exchanged, history=lambda example: "exchanged")
    return asked
