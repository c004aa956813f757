"""Scripts: identical texts score 1 in each, what a reader takes for a letter stays whole, data chooses the tokens."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagpr.chains.build import build_chains
from tagpr.chains.grammar import write_completion
from tagpr.chains.settings import ChainSettings
from tagpr.data.load import load_splits
from tagpr.data.settings import DataSettings, SourceSettings
from tagpr.progress import StageContext
from tagpr.tasks import load_task
from tagpr.tasks.metrics import correctness
from tagpr.tasks.rouge import rouge
from tagpr.tasks.scripts import deleted_share, tokens_for, with_rouge_tokens
from tagpr.tasks.tokens import RougeTokens, character_tokens, unicode_tokens, word_tokens

TEXTS = {
    "english": ("a small library for reading XML files", "latin"),
    "portuguese": ("uma biblioteca para leitura de arquivos e configuração", "latin"),
    "chinese": ("这家火锅店味道很好服务热情", "characters"),
    "japanese": ("このラーメン屋はとてもおいしい", "characters"),
    "thai": ("ร้านนี้อร่อยมาก", "characters"),
    "russian": ("маленькая библиотека для чтения файлов", "unicode"),
    "greek": ("μια μικρή βιβλιοθήκη", "unicode"),
    "arabic": ("مكتبة صغيرة لقراءة الملفات", "unicode"),
    "hebrew": ("ספרייה קטנה לקריאת קבצים", "unicode"),
    "hindi": ("फ़ाइलें पढ़ने के लिए एक छोटी लाइब्रेरी", "unicode"),
    "korean": ("파일을 읽는 작은 라이브러리", "unicode"),
    "vietnamese": ("một thư viện nhỏ để đọc tệp tin", "unicode"),
    "emoji": ("🎉🚀👍🏽", "unicode"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_tokens_are_chosen_by_the_script_and_identical_texts_score_one(name):
    text, tokens = TEXTS[name]
    assert tokens_for([text] * 3) == tokens
    assert rouge(text, text, RougeTokens(tokens)) == (1.0, 1.0)
    for kept in ("characters", "unicode", "words"):
        assert rouge(text, text, RougeTokens(kept)) == (1.0, 1.0)
        assert deleted_share([text], RougeTokens(kept)) == 0
    task = with_rouge_tokens(load_task("generic-text"), [text])
    assert task.rouge_tokens == tokens and correctness(task, text, text) == 1


@given(st.text(max_size=40))
def test_no_letter_of_any_text_is_deleted(text):
    for tokens in (RougeTokens.CHARACTERS, RougeTokens.UNICODE):
        assert deleted_share([text], tokens) == 0


def test_a_number_alone_does_not_make_different_texts_equal():
    answer, target = "第3章 猫", "第3章 犬的故事"
    assert rouge(answer, target)[0] == 1.0  # the fault of latin tokens: only the 3 is left
    assert rouge(answer, target, tokens_for([target]))[0] < 0.7


def test_combining_marks_stay_with_their_letter():
    assert character_tokens("हिन्दी") == ["हि", "न्दी"]
    assert character_tokens("ร้าน") == ["ร้", "า", "น"]
    assert character_tokens("👍🏽🇫🇷👩‍💻") == ["👍🏽", "🇫🇷", "👩‍💻"]
    assert character_tokens("cafe\u0301") == character_tokens("caf\u00e9") == ["caf\u00e9"]
    assert unicode_tokens("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert unicode_tokens("می‌خواهم بروم") == ["می‌خواهم", "بروم"]
    assert word_tokens("привет 我爱北京") == ["привет", "我", "爱", "北京"]


def test_tokens_a_card_sets_stay_and_a_warning_says_what_they_delete(caplog):
    chinese = TEXTS["chinese"][0]
    latin = load_task("generic-text").model_copy(update={"rouge_tokens": RougeTokens.LATIN})
    with caplog.at_level(logging.WARNING, "tagpr"):
        assert with_rouge_tokens(latin, [chinese]).rouge_tokens == "latin"
    (record,) = caplog.records
    assert "deletes 100% of the letters" in record.getMessage() and "characters" in record.getMessage()
    caplog.clear()
    posts = load_task("post-title")
    assert with_rouge_tokens(posts, ["a title in English"]) is posts and not caplog.records
    section = load_task("package-section")
    assert with_rouge_tokens(section, [chinese]) is section and not caplog.records


def test_reading_data_chooses_the_tokens(tmp_path):
    rows = [
        json.dumps({"user_id": user, "input": f"问题{i}", "output": f"这是第{i}个答案"})
        for user in "abc"
        for i in range(4)
    ]
    (tmp_path / "zh.jsonl").write_text("\n".join(rows), encoding="utf-8")
    source = SourceSettings(task="generic-text", path="zh.jsonl")
    (split,) = load_splits(DataSettings(sources=(source,)), 0, tmp_path).values()
    assert split.task.rouge_tokens == "characters" and split.report.rouge_tokens == "characters"


@pytest.mark.parametrize("name", TEXTS)
def test_stage_0_keeps_right_answers_in_any_script(tmp_path, name):
    """Tokens that delete a script's letters would score every right answer 0: not one chain would be left."""
    text, _ = TEXTS[name]
    rows = [
        json.dumps({"user_id": u, "input": f"{text} {i}", "output": f"{text} {i}"}) for u in "abc" for i in range(4)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows), encoding="utf-8")
    source = SourceSettings(task="generic-text", path="mine.jsonl")
    (split,) = load_splits(DataSettings(sources=(source,)), 0, tmp_path).values()
    name = split.task.name
    chains = [
        {"task": name, "example_id": e.id, "completion": write_completion([("make_decision", text)], e.target)}
        for e in split.train
    ]
    (tmp_path / "chains.jsonl").write_text("\n".join(map(json.dumps, chains)))
    settings = ChainSettings(teacher="written", written=tmp_path / "chains.jsonl", min_segments=1)
    funnel = build_chains(settings, {name: split.task}, {name: split.train}, None, StageContext(tmp_path / "out"))
    assert funnel.steps[-1].total == len(split.train)
