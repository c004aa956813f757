"""The five signals and the composite against independent references, and their algebra on random responses."""

import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagpr.chains.evidence import Shown
from tagpr.chains.filters import accuracy_filter
from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RecipeError, RunError
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.format import format_reward
from tagpr.rewards.repetition import repetition_reward
from tagpr.rewards.settings import RewardSettings
from tagpr.rewards.tag import tag_reward
from tagpr.rewards.verifiable import find_verifiable, verifiable_reward, verify_all
from tagpr.tasks import load_task
from tagpr.tasks.metrics import correctness
from tagpr.tasks.types import Kind, Task

VOCABULARY = load_vocabulary(None)
STEP = "<{0}>{1}</{0}>"
GOOD = (
    "<think>\n<analyze_input>a game in python</analyze_input>\n<examine_examples>two games before</examine_examples>\n"
    "<make_decision>games</make_decision>\n</think>\ngames"
)
LABELS = load_task("package-section")
RATING = Task(
    name="stars",
    kind=Kind.RATING,
    description="d",
    instruction="i",
    entry="{{ text }} -> {{ score }}",
    input_fields=("text",),
    output_field="score",
    labels=("1", "2", "3", "4", "5"),
    metrics=("mae", "rmse"),
)
TEXT = load_task("package-synopsis")


def parse(text):
    return parse_response(text, VOCABULARY)


@pytest.mark.parametrize(
    ("text", "form", "tag"),
    [
        (GOOD, 1, 0),
        (GOOD.replace("</think>", ""), 0, 0),
        (GOOD.removeprefix("<think>"), 0, 0),
        (GOOD.removesuffix("games"), 0, 0),
        (GOOD + " <make_decision>", 0, 0),
        (GOOD.replace("</make_decision>", ""), 1, -1),
        (GOOD.replace("make_decision", "guess"), 1, -1),
        (GOOD.replace("<make_decision>games</make_decision>", "so games"), 1, -1),
        (GOOD.replace("<make_decision>games</make_decision>", ""), 1, -1),
        ("Sure! " + GOOD, 0, -1),
        ("\n" + GOOD, 1, 0),
        ("<think></think>games", 0, -1),
        ("<think>\n \n</think>\ngames", 0, -1),
        ("<think><analyze_input> </analyze_input></think>games", 0, -1),
        ("<think>it is a game</think>games", 1, -1),
        ("games", 0, -1),
        ("", 0, -1),
    ],
)
def test_form_and_tags_are_judged_apart(text, form, tag):
    response = parse(text)
    assert (format_reward(response), tag_reward(response)) == (form, tag)


def test_a_prefilled_think_needs_a_chain_too():
    for text, form in ((GOOD.removeprefix("<think>"), 1), ("</think>games", 0), ("Sure. " + GOOD, 0), (GOOD, 1)):
        assert format_reward(parse_response(text, VOCABULARY, think_prefilled=True)) == form


def test_verifiable_reward_by_kind():
    assert verifiable_reward(LABELS, " games ", "games") == 1
    assert verifiable_reward(LABELS, "game", "games") == 0
    assert verifiable_reward(TEXT, "a small game", "a small python game") == pytest.approx(6 / 7)
    assert verifiable_reward(RATING, "4", "5") == pytest.approx(0.75)
    assert verifiable_reward(RATING, "4", "5", RewardSettings(rating="exact")) == 0
    assert verifiable_reward(RATING, "5.0", "5", RewardSettings(rating="exact")) == 1
    assert verifiable_reward(RATING, "3.5", "3") == pytest.approx(0.875)
    for unread in ("banana", "6", "0", "400", "nan", ""):  # off the scale, or no number
        assert verifiable_reward(RATING, unread, "3") == verifiable_reward(RATING, unread, "5") == 0


def test_reward_filter_and_preference_use_the_cards_rouge():
    """`rouge_tokens` and `rouge_mix` decide R_v, the accuracy filter of chains and the order of PQP alike."""
    post = load_task("post-title")
    assert verifiable_reward(post, "安门天", "天安门") == pytest.approx((1 + 2 / 3) / 2)  # latin tokens: 0
    for mix, value in ((1.0, 1.0), (0.0, 2 / 3), (0.25, 0.75)):
        task = post.model_copy(update={"rouge_mix": mix})
        assert verifiable_reward(task, "安门天", "天安门") == pytest.approx(value)
        assert correctness(task, "安门天", "天安门") == pytest.approx(value)
    row = {"task": post.name, "example_id": "1", "answer": "安门天"}
    for threshold, kept in ((0.8, 1), (0.9, 0)):
        tasks = {post.name: post.model_copy(update={"correct_from": threshold})}
        assert len(accuracy_filter([row], tasks, {(post.name, "1"): "天安门"}, {})[0]) == kept


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 5))
def test_repetition_equals_the_equation(words, n):
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    expected = -(len(grams) - len(Counter(grams))) / (len(grams) + 1)
    assert repetition_reward(" ".join(words), n, 1.0) == pytest.approx(expected)


def test_repetition_counts_chinese_by_characters():
    assert repetition_reward("好吃好吃好吃好吃好吃") < -0.5
    assert repetition_reward("这家餐厅的牛肉面很好吃") == 0


pieces = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "games", "<make_decision>", "</make_decision>", " ", "word ", "<odd>", "</odd>", "\n"]
        + [STEP.format(name, "some words") for name in VOCABULARY.names[:4]]
    ),
    max_size=14,
).map("".join)


@given(pieces, st.floats(0, 1), st.sampled_from(["games", "net"]))
def test_the_composite_is_equation_5_and_11(text, personal, target):
    s = RewardSettings(alpha=0.7, beta=0.5, gamma=0.3)
    columns = {"task": ["package-section"], "target": [target], "user_id": ["u"], "prompt_ids": [[1]]}
    tasks = {"package-section": LABELS}
    guided = CompositeReward(tasks, VOCABULARY, s, prmu=lambda u, p, c: [personal])
    foundation = CompositeReward(tasks, VOCABULARY, s, stage="exploratory", prmu=lambda u, p, c: [personal])
    (parts,) = guided.components([text], completion_ids=[[2]], **columns)
    assert guided(["p"], [text], [[2]], **columns) == [parts.reward]
    v, rep, f, tag = parts.verifiable, parts.repetition, parts.format, parts.tag
    assert f in (0, 1) and tag in (-1, 0) and 0 <= v <= 1 and -1 < rep <= 0
    assert math.isclose(parts.reward, 0.7 * (v + rep) * f + 0.5 * tag + 0.3 * personal, abs_tol=1e-12)
    assert foundation(["p"], [text], [[2]], **columns) == [pytest.approx((v + rep) * f)]
    if not f:  # the product: without the format nothing is earned for being right
        assert math.isclose(parts.reward, 0.5 * tag + 0.3 * personal, abs_tol=1e-12)


def test_a_component_that_is_not_finite_stops_the_run():
    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, prmu=lambda u, p, c: [float("nan")])
    with pytest.raises(RunError, match="not finite"):
        reward(["p"], [GOOD], [[1]], task=["package-section"], target=["games"], user_id=["u"], prompt_ids=[[2]])


def test_gamma_zero_asks_no_prmu():
    def fail(*_):
        raise AssertionError("must not be called")

    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, RewardSettings(gamma=0), prmu=fail)
    assert reward(["p"], [GOOD], [[1]], task=["package-section"], target=["games"]) == [pytest.approx(0.8)]


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (
            {"task": ["package-section"], "target": [None]},
            "completion 0 for task .*: the target is None",
        ),
        ({"task": ["package-section"], "target": [float("nan")]}, "the target is nan, not text"),
        ({"task": ["package-section"], "target": [4]}, "the target is 4, not text; .* write numbers as text"),
        ({"task": ["other"], "target": ["games"]}, "completion 0: unknown task 'other'; known: package-section"),
    ],
)
def test_a_row_without_a_task_or_target_is_refused_in_one_line(columns, complaint):
    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, stage="exploratory")
    with pytest.raises(RunError, match=complaint) as caught:
        reward(["p"], [GOOD], [[1]], **columns)
    assert "\n" not in str(caught.value)


def test_a_prmu_without_its_columns_is_refused():
    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, prmu=lambda u, p, c: [0.5])
    with pytest.raises(RunError, match="columns user_id and prompt_ids"):
        reward(["p"], [GOOD], [[1]], task=["package-section"], target=["games"], user_id=["u"])


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        (GOOD, 1.0),
        ([{"role": "assistant", "content": GOOD}], 1.0),
        ([{"role": "assistant", "content": [{"type": "text", "text": GOOD[:40]}, {"text": GOOD[40:]}]}], 1.0),
        ([{"role": "assistant", "content": [{"type": "image", "image": "x"}, {"type": "text", "text": GOOD}]}], 1.0),
        ([{"role": "assistant", "content": None, "tool_calls": []}], 0.0),
        ([{"role": "assistant", "content": ""}], 0.0),
        ([], 0.0),
    ],
)
def test_chat_completions_are_read_by_the_last_content(completion, score):
    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, stage="exploratory")
    assert reward(["p"], [completion], [[1]], task=["package-section"], target=["games"]) == [score]


def test_evidence_needs_to_know_what_each_prompt_shows():
    s, columns = RewardSettings(delta_evidence=0.1), {"task": ["package-section"], "target": ["games"]}
    shown = {("package-section", "e1"): Shown(LABELS, "a game", "a game", ())}
    reward = CompositeReward({"package-section": LABELS}, VOCABULARY, s, stage="exploratory", shown=shown)
    assert reward(["p"], [GOOD], [[1]], example_id=["e1"], **columns) == [1.0]  # what it decides is its answer
    other = GOOD.removesuffix("games") + "net"  # decides one thing, answers another
    assert reward(["p"], [other], [[1]], example_id=["e1"], task=["package-section"], target=["net"])[0] < 1
    for wrong in ({}, {"example_id": ["e2"]}):
        with pytest.raises(RunError, match=r"completion 0 .* column example_id"):
            reward(["p"], [GOOD], [[1]], **columns, **wrong)


def test_the_mean_of_the_cards_metrics_tells_a_near_miss_from_nonsense():
    task, target = load_task("package-changelog"), "Fix a typo."
    reward = find_verifiable(RewardSettings(verifiable="metrics"))
    assert reward(task, target, target) == 1.0
    assert reward(task, "Fix a typo", target) == pytest.approx((0 + 10 / 11) / 2)
    assert reward(task, "nonsense", target) < 0.2 and reward(task, " ", target) == 0.0


def test_a_verifiable_reward_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "def same_length(task, answer, target):\n    return float(len(answer) == len(target))\nx = 1\n"
    )
    settings = RewardSettings(verifiable="mine.py:same_length", gamma=0)
    own = find_verifiable(settings, tmp_path)
    reward = CompositeReward({LABELS.name: LABELS}, VOCABULARY, settings, verifiable=own)
    completion = "<think>\n<a> x </a>\n</think>\nabc"
    right, wrong = reward.components([completion] * 2, [LABELS.name] * 2, ["xyz", "wxyz"])
    assert (right.verifiable, wrong.verifiable) == (1.0, 0.0)
    with pytest.raises(RecipeError, match="no function; write one of"):
        find_verifiable(RewardSettings(verifiable="mine.py:x"), tmp_path)


OWN_MANY = """
class Mine:
    def __init__(self, values):
        self.values = values

    def __call__(self, task, answer, target):
        return 0.5

    def many(self, tasks, answers, targets):
        return self.values(answers)


right = Mine(lambda answers: [float(len(answer)) for answer in answers])
short = Mine(lambda answers: [1.0])
words = Mine(lambda answers: ["good" for _ in answers])
broken = Mine(lambda answers: 1 / 0)
"""


def test_a_verifiable_reward_of_ones_own_that_judges_many_at_once(tmp_path):
    (tmp_path / "mine.py").write_text(OWN_MANY)

    def judged(name: str) -> list[float]:
        own = find_verifiable(RewardSettings(verifiable=f"mine.py:{name}"), tmp_path)
        assert own(LABELS, "a", "b") == 0.5
        return verify_all(own, [LABELS] * 2, ["ab", "abc"], ["x", "x"])

    assert judged("right") == [2.0, 3.0]
    for name, says in {
        "short": "rewards: mine.py:short: many gave 1 values for 2 answers; give one each",
        "words": "rewards: mine.py:words gave 'good' (str); it must give a number",
        "broken": "rewards: mine.py:broken raised ZeroDivisionError: division by zero (mine.py:",
    }.items():
        with pytest.raises(RunError, match=re.escape(says)):
            judged(name)
    with pytest.raises(RecipeError, match=r"rewards: mine\.py:Mine: is a class; name an instance of it, or a function"):
        find_verifiable(RewardSettings(verifiable="mine.py:Mine"), tmp_path)
