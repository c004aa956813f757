"""Vocabulary discovery: planted groups of paraphrased names come back."""

import random

import numpy as np
import pytest

from tagpr.chains.discovery import discover, embed
from tagpr.chains.settings import VocabularySettings
from tagpr.chains.vocabulary import Vocabulary, load_vocabulary
from tagpr.errors import RunError

PLANTED = {
    "analyze_input": ["analyze_input", "analyse_the_input", "input_analysis", "analyze_user_input", "analyzing_input"],
    "examine_examples": ["examine_examples", "examine_the_examples", "look_at_examples", "example_examination",
                         "inspect_examples"],
    "identify_patterns": ["identify_patterns", "pattern_identification", "identify_pattern", "find_patterns",
                          "recognize_patterns"],
    "compare_entities": ["compare_entities", "entity_comparison", "compare_two_entities", "comparing_entities"],
    "make_decision": ["make_decision", "decision_making", "make_final_decision", "decide", "make_a_decision"],
    "verify_conclusion": ["verify_conclusion", "conclusion_verification", "verify_the_conclusion",
                          "double_check_conclusion"],
    "summarize_history": ["summarize_history", "history_summary", "summarise_user_history", "summarizing_history"],
    "estimate_sentiment": ["estimate_sentiment", "sentiment_estimation", "assess_sentiment", "sentiment_assessment"],
}  # fmt: skip


def uses(seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    names = [
        name
        for group in PLANTED.values()
        for i, name in enumerate(group)
        for _ in range(rng.randint(3, 30) // (i + 1) + 1)
    ]
    rng.shuffle(names)
    return names


def rand_index(found: Vocabulary, planted: dict[str, list[str]]) -> float:
    from sklearn.metrics import adjusted_rand_score

    names = [name for group in planted.values() for name in group]
    truth = [label for label, group in enumerate(planted.values()) for _ in group]
    where = {member: label for label, tag in enumerate(found) for member in tag.members}
    return float(adjusted_rand_score(truth, [where.get(name, -1) for name in names]))


@pytest.mark.parametrize("k", [None, len(PLANTED)])
def test_planted_groups_come_back(k):
    found = discover(uses(), VocabularySettings(k=k, min_share=0.0), seed=0)
    assert rand_index(found, PLANTED) >= 0.9
    assert sum(tag.count for tag in found) == len(uses())
    for tag in found:
        assert tag.name in tag.members and tag.definition


def test_tfidf_needs_no_model_and_is_deterministic():
    settings = VocabularySettings(k=len(PLANTED), encoder="tfidf", min_share=0.0)
    found = discover(uses(), settings, seed=0)
    assert rand_index(found, PLANTED) >= 0.7
    assert found == discover(sorted(uses()), settings, seed=0)


def test_frequency_floor_drops_rare_clusters():
    names = ["compare_options"] * 60 + ["make_decision"] * 60 + ["sing_song"]
    settings = VocabularySettings(k=3, encoder="tfidf", min_share=0.01)
    assert set(discover(names, settings, 0).names) == {"compare_options", "make_decision"}
    assert "sing_song" in discover(names, settings.model_copy(update={"min_share": 0.0}), 0)


def test_seeding_from_the_paper():
    settings = VocabularySettings(k=9, encoder="tfidf", min_share=0.0, seed_with_paper=True)
    found = discover([*load_vocabulary().names] * 3 + uses(), settings, 0)
    assert {"analyze_input", "make_decision"} <= set(found.names)


def test_names_that_cannot_be_tags_are_left_out():
    found = discover(["Think", "analyze input", "AnalyzeInput", "decide!", "123", "", "compare"], VocabularySettings(
        k=3, encoder="tfidf", min_share=0.0), 0)  # fmt: skip
    assert {m for tag in found for m in tag.members} == {"analyze_input", "decide", "compare"}
    with pytest.raises(RunError, match="too few to cluster"):
        discover(["one"], VocabularySettings(), 0)


def test_embeddings_are_unit_vectors():
    assert np.linalg.norm(embed(["a_b", "c"], "tfidf"), axis=1) == pytest.approx([1, 1])
