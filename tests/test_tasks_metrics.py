"""Metrics against their public oracles: rouge-score, scikit-learn, nltk; and the official evaluator's special rules."""

import json
import random
import sys
from pathlib import Path

import pytest

from tagpr import tasks
from tagpr.errors import RecipeError
from tagpr.tasks import list_tasks, load_task
from tagpr.tasks import tokens as tokens_module
from tagpr.tasks.answers import parse_rating
from tagpr.tasks.cards import parse_card, read_task
from tagpr.tasks.metrics import METRICS, correctness, higher_is_better, score_all, score_one
from tagpr.tasks.rouge import rouge
from tagpr.tasks.tokens import RougeTokens, word_tokens

WORDS = [
    *(
        "the",
        "a",
        "of",
        "library",
        "for",
        "Reading",
        "XML",
        "files",
        "tool,",
        "to",
        "manage",
        "your-own",
        "data",
        "small",
    ),
    *("(fast)", "C++", "graphics", "é", "3D", "中文"),
]


def random_pairs(number: int, longest: int) -> list[tuple[str, str]]:
    rng = random.Random(7)
    return [
        (
            " ".join(rng.choices(WORDS, k=rng.randint(0, longest))),
            " ".join(rng.choices(WORDS, k=rng.randint(0, longest))),
        )
        for _ in range(number)
    ]


def test_rouge_equals_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rouge1", "rougeL"])
    for prediction, reference in random_pairs(2000, 25):
        expected = scorer.score(reference, prediction)
        rouge1, rouge_l = rouge(prediction, reference)
        assert abs(rouge1 - expected["rouge1"].fmeasure) < 1e-9
        assert abs(rouge_l - expected["rougeL"].fmeasure) < 1e-9


def test_rouge_of_chinese_counts_characters():
    assert rouge("这家店很好吃", "这家店不好吃") == (0.0, 0.0)  # rouge-score's tokens drop every Chinese character
    rouge1, rouge_l = rouge("这家店很好吃", "这家店不好吃", RougeTokens.CHARACTERS)
    assert rouge1 == pytest.approx(5 / 6) and rouge_l == pytest.approx(5 / 6)
    assert rouge("São Paulo", "sao paulo", RougeTokens.CHARACTERS)[0] == pytest.approx(0.5)


def test_rouge_of_chinese_counts_jieba_words():
    assert word_tokens("我爱北京天安门 iPhone15 好") == ["我", "爱", "北京", "天安门", "iphone15", "好"]
    r1, rl = rouge("我爱天安门", "我爱北京天安门", RougeTokens.WORDS)  # 3 of 3 words in 4: F = 6/7
    assert (r1, rl) == (pytest.approx(6 / 7), pytest.approx(6 / 7))
    r1, rl = rouge("天安门我爱", "我爱北京天安门", RougeTokens.WORDS)  # the same words; in order only two
    assert (r1, rl) == (pytest.approx(6 / 7), pytest.approx(4 / 7))
    r1, rl = rouge("我爱天安门", "我爱北京天安门", RougeTokens.CHARACTERS)  # 5 of 5 characters in 7: F = 10/12
    assert r1 == pytest.approx(10 / 12)


def test_words_without_jieba_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    tokens_module._jieba.cache_clear()
    with pytest.raises(RecipeError, match=r"jieba; pip install 'tagpr\[metrics\]'"):
        rouge("北京", "北京", RougeTokens.WORDS)
    card = (Path(tasks.__file__).parent / "cards" / "post-title.yaml").read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match=r"mine.yaml, key rouge_tokens: words needs the package jieba"):
        parse_card(card.replace("rouge_tokens: characters", "rouge_tokens: words"), "mine.yaml")


def test_macro_f1_equals_sklearn():
    from sklearn import metrics

    task = load_task("package-section")
    rng = random.Random(3)
    targets = [rng.choice(task.labels[:9]) for _ in range(300)]
    answers = [rng.choice([target, rng.choice(task.labels), "nonsense"]) for target in targets]
    ours = score_all(task, answers, targets)
    expected = metrics.f1_score(targets, answers, labels=list(task.labels), average="macro", zero_division=0)
    assert ours["f1"] == pytest.approx(expected)
    assert ours["accuracy"] == pytest.approx(sum(a == t for a, t in zip(answers, targets, strict=True)) / 300)


RATING = """
{name: stars, kind: rating, description: d, instruction: i, entry: "{{ text }}", input_fields: [text],
 labels: ["1", "2", "3", "4", "5"], metrics: [mae, rmse]}
"""


def test_ratings_follow_the_official_evaluator():
    task = parse_card(RATING, "stars")
    assert [parse_rating(task, "none", target) for target in (1, 2, 3, 4, 5)] == [5, 5, 5, 1, 1]
    assert score_one(task, " 4 ", "5") == {"mae": 1, "rmse": 1}
    assert score_one(task, "9", "5") == {"mae": 4, "rmse": 4}  # parses, and is not clipped
    for noise in ("nan", "inf", "1e300", "", "four"):
        assert score_one(task, noise, "2") == {"mae": 3, "rmse": 3}
    assert score_all(task, ["1", "5"], ["1", "3"])["rmse"] == pytest.approx(2**0.5)


def test_answers_outside_the_labels_are_wrong_and_case_counts_where_the_card_says_so():
    task = load_task("package-section")
    assert score_one(task, ' "Devel." ', "devel")["accuracy"] == 1
    assert score_one(task, "weather", "weather")["accuracy"] == 0
    strict = task.model_copy(update={"answer_rules": ()})
    assert score_one(strict, "Devel", "devel")["accuracy"] == 0


def test_every_bundled_card_loads_under_its_own_name():
    assert list_tasks()
    for name in list_tasks():
        assert load_task(name).name == name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("kind: colour", "key kind"),
        ("metrics: [rouge1]", "key metrics"),
        ("labels: ['5', '1']", "key labels"),
        ("entry: '{{ text'", "key entry"),
        ("instructions: x", "key instructions"),
        ("name: ../up", "key name"),
        ("input_pattern: '('", "key input_pattern"),
        ("rouge_threshold: 0.3", "correct_from"),
    ],
)
def test_a_wrong_card_names_the_key_in_one_line(change, complaint):
    key = change.split(":")[0]
    lines = [f"{name}: {value}" for name, value in CARD.items() if name != key]
    with pytest.raises(RecipeError) as caught:
        parse_card("\n".join([*lines, change]), "card.yaml")
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


CARD = {
    "name": "stars",
    "kind": "rating",
    "description": "d",
    "instruction": "i",
    "entry": "'{{ text }}'",
    "input_fields": "[text]",
    "labels": "['1', '2']",
    "metrics": "[mae]",
}


def test_unknown_task_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean package-section"):
        load_task("package-sections")


def test_meteor_equals_nltk_without_wordnet():
    from nltk.translate import meteor_score as nltk_meteor

    from tagpr.tasks.meteor import meteor
    from tagpr.tasks.tokens import latin_tokens

    class NoWordNet:
        def synsets(self, word):
            return []

    for prediction, reference in random_pairs(400, 20):
        answer, target = latin_tokens(prediction), latin_tokens(reference)
        if not answer or not target:
            continue
        expected = nltk_meteor.meteor_score([target], answer, wordnet=NoWordNet())
        assert meteor(prediction, reference) == pytest.approx(expected, abs=1e-9)


TEXT_CARD = """
{name: lines, kind: text, description: d, instruction: i, entry: "{{ input }}", input_fields: [input],
 output_field: output, metrics: [exact, edit]%s}
"""


def test_exact_and_edit_see_what_rouge_cannot():
    task = parse_card(TEXT_CARD % "", "lines")
    assert score_one(task, "Fix typo.", "Fix typo.") == {"exact": 1, "edit": 1}
    assert score_one(task, "fix typo", "Fix typo.") == {"exact": 0, "edit": pytest.approx(1 - 2 / 9)}
    assert correctness(task, "fix typo", "Fix typo.") == 1  # ROUGE, the kind's own: neither case nor stop
    assert score_all(task, ["a", "b"], ["a", "c"]) == {"exact": 0.5, "edit": 0.5}


@pytest.mark.parametrize(("name", "value"), [("exact", 0), ("edit", 1 - 2 / 9), ("rouge", 1), ("rougeL", 1)])
def test_a_card_chooses_its_correctness(name, value):
    task = parse_card(TEXT_CARD % f", correctness: {name}", "lines")
    assert correctness(task, "fix typo", "Fix typo.") == pytest.approx(value)
    assert correctness(task, "  ", "Fix typo.") == 0


@pytest.mark.parametrize("name", ["f1", "mae", "nothing"])
def test_a_correctness_that_cannot_be_one_is_refused(name):
    with pytest.raises(RecipeError, match=r"lines, key correctness: .* kind text has: .*exact, edit"):
        parse_card(TEXT_CARD % f", correctness: {name}", "lines")


def test_correctness_of_the_other_kinds():
    stars = parse_card(RATING, "stars")
    assert [correctness(stars, answer, "5") for answer in ("5", "5.0", "4", "1", "400", "", "none")] == [
        *(1, 1, 0.75, 0, 0, 0, 0)
    ]
    section = load_task("package-section")
    assert correctness(section, '"Devel."', "devel") == 1 and correctness(section, "weather", "weather") == 0


OWN = """
from tagpr.tasks.metrics import Metric

def share(task, answer, target):
    return min(1.0, len(answer) / len(target))

brevity = Metric("brevity", True, share)
wild = Metric("wild", True, lambda task, answer, target: 7.0)
number = 3
"""


def test_a_metric_of_ones_own_in_a_file_beside_the_card(tmp_path):
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    card = tmp_path / "lines.yaml"
    card.write_text((TEXT_CARD % ", correctness: 'mine.py:brevity'").replace("exact,", "'mine.py:brevity',"), "utf-8")
    task = load_task(card)
    assert task.metrics == ("brevity", "edit") and correctness(task, "ab", "abcd") == 0.5
    assert score_all(task, ["ab", "abcd"], ["abcd", "abcd"]) == {"brevity": 0.75, "edit": 0.75}
    assert higher_is_better("brevity")
    METRICS.pop("brevity")  # as in another process, which has the task from a file
    again = read_task(json.loads(task.model_dump_json()))
    assert again == task and score_one(again, "ab", "abcd") == {"brevity": 0.5, "edit": 0.5}
    wild = parse_card(TEXT_CARD % ", correctness: 'mine.py:wild'", "lines", tmp_path)
    with pytest.raises(RecipeError, match=r"correctness wild: 7.0 is not in \[0, 1\]"):
        correctness(wild, "a", "a")
    with pytest.raises(RecipeError, match=r"lines, key metrics: .*mine.py:number: is int, not a tagpr"):
        parse_card(TEXT_CARD % ", correctness: 'mine.py:number'", "lines", tmp_path)


def test_the_direction_of_every_metric_is_said_once():
    assert [name for name, metric in METRICS.items() if not metric.higher_is_better] == ["mae", "rmse", "mse"]
    assert not higher_is_better("mae") and higher_is_better("edit") and higher_is_better("format_rate")


def test_composed_and_decomposed_letters_are_the_same_answer():
    task = parse_card(TEXT_CARD % "", "lines")
    assert score_one(task, "cafe\u0301", "caf\u00e9") == {"exact": 1, "edit": 1}


def test_a_number_is_the_label_it_equals():
    task = parse_card(RATING.replace("rating", "label").replace("mae, rmse", "accuracy"), "stars")
    assert score_one(task, "4.0", "4") == {"accuracy": 1} and score_one(task, "4", "4.0") == {"accuracy": 1}
    assert score_one(task, "4.5", "4") == {"accuracy": 0} and score_one(task, "6.0", "6") == {"accuracy": 0}


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        ("[yes, no]", ("yes", "no")),
        ("[On, off, ~]", ("On", "off", "~")),
        ("[1, 2, 3]", ("1", "2", "3")),
        ("[1.0, 4.50]", ("1.0", "4.50")),
        ("[2020-01-01, 0x1F, 'yes']", ("2020-01-01", "0x1F", "yes")),
        ("\n- true\n- false", ("true", "false")),
    ],
)
def test_labels_are_what_the_card_says_not_what_yaml_makes_of_them(written, labels):
    task = parse_card("\n".join([*(f"{k}: {v}" for k, v in LABEL_CARD.items()), f"labels: {written}"]), "card.yaml")
    assert task.labels == labels
    assert [correctness(task, label, label) for label in labels] == [1.0] * len(labels)


LABEL_CARD = {
    "name": "answers",
    "kind": "label",
    "description": "d",
    "instruction": "i",
    "entry": "'{{ text }}'",
    "input_fields": "[text]",
    "metrics": "[accuracy, f1]",
}


@pytest.mark.parametrize("text", ["", "~", "- a", "a: [", "labels: {a: 1}\nname: x", "labels: [[1], [2]]"])
def test_what_is_no_card_is_refused_in_one_line(text):
    with pytest.raises(RecipeError) as caught:
        parse_card(text, "card.yaml")
    assert str(caught.value).startswith("task card card.yaml") and "\n" not in str(caught.value)
