"""Reasoning models: `<think>` as plain, added or special tokens, written by the model or already by the chat template.

Every engine, SFT, the RL reward and evaluation read the same text of a completion.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tagpr.chains.grammar import parse_response
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.loading import load_text_model
from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.text import decode, end_token_ids, learned_ids, think_opening, turn_decoder
from tagpr.engine.tiny import build_tiny_model
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.errors import ModelError, RunError
from tagpr.progress import StageContext
from tagpr.rewards.composite import CompositeReward
from tagpr.serve.engines import CompletionRequest, GrowingText
from tagpr.tasks import load_task
from tagpr.training.gspo import train_gspo
from tagpr.training.job import RLJob
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.training.sft import train_sft

TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
TEMPLATES = {
    "plain": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # Qwen3-Thinking's and DeepSeek-R1's ends, as their tokenizer_config.json has them
    "qwen3-thinking": TURNS + "{% if add_generation_prompt %}{{- '<|im_start|>assistant\n<think>\n' }}{% endif %}",
    "deepseek-r1": "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1] }}"
    "<|im_end|>{% else %}<|User|>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}",
    "prefilled-without-newline": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}",
}
KINDS = ["plain", "added", "special"]
VOCABULARY = load_vocabulary()
CHAIN = "<think>\n<make_decision>It is net.</make_decision>\n</think>\nnet"
CHAT = [{"role": "user", "content": "Which one?"}]


def build(folder: Path, template: str, kind: str) -> Path:
    """The tiny model with this template, `<think>` and `</think>` being tokens of this kind."""
    from tokenizers import AddedToken

    build_tiny_model(folder)
    tokenizer, model = load_tokenizer(folder), load_causal_lm(folder, "float32")
    if kind != "plain":
        tokens = [AddedToken(tag, special=kind == "special", normalized=False) for tag in ("<think>", "</think>")]
        tokenizer.add_tokens(tokens, special_tokens=kind == "special")
        model.resize_token_embeddings(len(tokenizer))
    tokenizer.chat_template = TEMPLATES[template]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made: dict[tuple[str, str], Path] = {}

    def get(template: str, kind: str) -> Path:
        if (template, kind) not in made:
            made[template, kind] = build(tmp_path_factory.mktemp("model"), template, kind)
        return made[template, kind]

    return get


def prompt_of(tokenizer) -> list[int]:
    return tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_learned_and_prompt_ids_make_the_turn_once(folders, template, kind):
    tokenizer = load_tokenizer(folders(template, kind))
    opening = think_opening(tokenizer)
    assert (opening is None) == (template == "plain") and think_opening(tokenizer) is opening
    prompt, learned = prompt_of(tokenizer), learned_ids(tokenizer, CHAIN)
    assert opening is None or opening.ends(prompt)
    whole = tokenizer.decode(prompt + learned)
    assert whole.count("<think>") == 1 and whole.endswith(CHAIN + tokenizer.eos_token)
    assert turn_decoder(tokenizer)(learned) == CHAIN
    if kind != "plain":
        assert sum(i == tokenizer.convert_tokens_to_ids("<think>") for i in prompt + learned) == 1
    without = learned_ids(tokenizer, "net")  # an answer without reasoning is learned as it is
    assert tokenizer.decode(without[:-1]) == "net"


def test_only_end_and_padding_tokens_go(folders):
    tokenizer = load_tokenizer(folders("plain", "special"))
    bos, eos, pad = (tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
    ids = [bos, *tokenizer(CHAIN, add_special_tokens=False)["input_ids"], pad, eos]
    assert decode(tokenizer, ids) == "<|im_start|>" + CHAIN
    assert decode(tokenizer, ids, [bos]) == CHAIN
    assert tokenizer.decode(ids, skip_special_tokens=True).count("think") == 0  # what is avoided


def test_end_tokens_of_the_checkpoint_count(folders, tmp_path):
    folder = build(tmp_path, "plain", "plain")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [2, 7]}))
    tokenizer = load_tokenizer(folder)
    expected = sorted({2, 7, tokenizer.eos_token_id})
    assert end_token_ids(tokenizer, folder=folder) == end_token_ids(tokenizer, load_causal_lm(folder)) == expected


def memorised(folder: Path, out: Path) -> Path:
    """The model after SFT on nothing but CHAIN: it says it by heart."""
    tokenizer = load_tokenizer(folder)
    groups = [TrainingRow(prompt_of(tokenizer), [learned_ids(tokenizer, CHAIN)])]
    settings = SFTSettings(learning_rate=1e-2, epochs=60, batch_size=1, warmup_ratio=0, max_grad_norm=1.0)
    train_sft(folder, groups, settings, StageContext(out))
    return out / "model"


@pytest.mark.parametrize(
    ("template", "kind"),
    [("plain", "special"), ("qwen3-thinking", "special"), ("deepseek-r1", "special"), ("qwen3-thinking", "plain")],
)
def test_rl_and_evaluation_agree_on_a_well_formed_completion(folders, tmp_path, monkeypatch, template, kind):
    model = memorised(folders(template, kind), tmp_path / "sft")
    tokenizer = load_tokenizer(model)
    prompt, task = prompt_of(tokenizer), load_task("package-section")
    text_model = load_text_model(model)
    # evaluation's way: greedy, through the engine; messages and token ids are the same prompt
    ((greedy,),) = text_model.generate([prompt], Sampling(64, temperature=0))
    assert text_model.generate([CHAT], Sampling(64, temperature=0)) == [[greedy]]
    assert greedy.text == CHAIN and greedy.finished and greedy.body == greedy.token_ids[:-1]
    verdict = parse_response(greedy.text, VOCABULARY)
    assert verdict.well_formed and verdict.answer == "net"
    # RL's way, through its own loop
    reward = CompositeReward({"package-section": task}, VOCABULARY, stage="exploratory")
    row = TrainingRow(prompt, task="package-section", target="net", user_id="u", example_id="e")
    settings = GSPOSettings(
        learning_rate=1e-6, steps=1, prompts_per_step=1, group_size=2, minibatches=1, max_new_tokens=64,
        temperature=0.01, heldout_every=1, heldout_prompts=1,
    )  # fmt: skip
    train_gspo(RLJob(model, [row], reward, settings, StageContext(tmp_path / "rl"), heldout=[row]))
    log = json.loads((tmp_path / "rl" / "log.jsonl").read_text().splitlines()[-1])
    assert log["reward/format"] == log["format_rate"] == log["heldout/format"] == 1.0
    assert log["reward/verifiable"] == log["heldout/verifiable"] == 1.0
    # TRL's way: it decodes without special tokens, so the reward reads the token ids
    dropped = tokenizer.decode(greedy.token_ids, skip_special_tokens=True)
    by_ids = CompositeReward({"package-section": task}, VOCABULARY, stage="exploratory", decode=turn_decoder(tokenizer))
    columns = {"task": ["package-section"], "target": ["net"]}
    best = reward([None], [greedy.text], [greedy.token_ids], **columns)
    assert by_ids([None], [dropped], [greedy.token_ids], **columns) == best
    assert reward([None], [dropped], [greedy.token_ids], **columns) != best
    # vLLM's way, as far as its interface goes
    answer = SimpleNamespace(token_ids=greedy.token_ids, finish_reason="stop")
    asked = []

    class LLM:
        def __init__(self, folder, **options):
            assert folder == str(model)

        def generate(self, prompts, sampling):
            asked.extend(zip([p["prompt_token_ids"] for p in prompts], sampling, strict=True))
            return [SimpleNamespace(outputs=[answer] * one["n"]) for one in sampling]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **given: given))
    vllm = load_text_model(model, "vllm")
    assert [[one.text for one in row] for row in vllm.generate([prompt] * 2, Sampling(64, 3))] == [[CHAIN] * 3] * 2
    assert asked[0][0] == prompt and asked[0][1]["seed"] != asked[1][1]["seed"]
    assert asked[0][1]["stop_token_ids"] == end_token_ids(tokenizer, folder=model)
    assert len(vllm.generate([prompt], Sampling(64, 3, temperature=0))[0]) == 3 and asked[-1][1]["n"] == 1
    with pytest.raises(ModelError, match=r"no log-probs at temperature 0\.7"):
        vllm.generate([prompt], Sampling(64, temperature=0.7, logprobs=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_vllms_completions_are_read_as_transformers_are(folders, monkeypatch, template, kind):
    """Whole turns, from token ids alone: end, padding and only these dropped; cut ones unfinished; log-probs kept."""
    folder = folders(template, kind)
    tokenizer = load_tokenizer(folder)
    learned = learned_ids(tokenizer, CHAIN)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    drawn = [
        SimpleNamespace(token_ids=tuple(learned), finish_reason="stop"),
        SimpleNamespace(token_ids=(*learned[:-1], tokenizer.pad_token_id), finish_reason="length"),
    ]
    for one in drawn:
        one.logprobs = [{i: SimpleNamespace(logprob=-1.0), 0: SimpleNamespace(logprob=-9.0)} for i in one.token_ids]
    asked = []

    class LLM:
        def __init__(self, folder, **options):
            pass

        def generate(self, prompts, sampling):
            asked.extend(sampling)
            if len(prompts[0]["prompt_token_ids"]) > 900:
                raise ValueError("The decoder prompt (length 1000) is longer\nthan the maximum model length of 900.")
            return [SimpleNamespace(outputs=drawn) for _ in prompts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **given: given))
    model = load_text_model(folder, "vllm")
    ((whole, cut),) = model.generate([CHAT], Sampling(64, 2, logprobs=True))
    assert whole.text == cut.text == CHAIN and (whole.finished, cut.finished) == (True, False)
    assert whole.body == learned[:-1] and whole.logprobs == [-1.0] * len(learned)
    assert asked[0]["detokenize"] is False and set(asked[0]["stop_token_ids"]) >= {tokenizer.eos_token_id}
    with pytest.raises(RunError, match=r"engine vllm: The decoder prompt .length 1000. is longer than the maximum"):
        model.generate([[1] * 1000], Sampling(64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_what_serving_streams_is_the_whole_turn(folders, template, kind):
    tokenizer = load_tokenizer(folders(template, kind))
    learned = learned_ids(tokenizer, CHAIN)
    request = CompletionRequest("final", tuple(prompt_of(tokenizer)), Sampling(64))
    text = GrowingText(tokenizer, request, [tokenizer.eos_token_id])
    pieces = [text.grow(learned[:size])[0] for size in range(1, len(learned) + 1)]
    assert "".join(pieces) + text.rest(CHAIN) == CHAIN


def test_a_model_that_vllm_does_not_load_is_one_line(folders, monkeypatch):
    def fails(folder, **options):
        raise RuntimeError("Engine core initialization failed.\nSee root cause above.")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=fails))
    with pytest.raises(ModelError, match=r"does not load .Engine core initialization failed. See root cause above"):
        load_text_model(folders("plain", "plain"), "vllm")


def test_a_tokenizer_larger_than_the_embedding_is_one_line_at_load(tmp_path):
    folder = build_tiny_model(tmp_path)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["<tag_one>", "<tag_two>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder)
    size = len(tokenizer)
    assert f"has {size} tokens, its embedding {size - 2} rows; " in str(caught.value) and "\n" not in str(caught.value)


def test_log_probs_come_when_they_are_asked_for(folders):
    model = TransformersModel.load(folders("plain", "special"))
    (row,) = model.generate([CHAT], Sampling(8, 2, logprobs=True))
    assert all(len(one.logprobs) == len(one.token_ids) == one.reply_tokens for one in row)
    (row,) = model.generate([CHAT], Sampling(8, 2))
    assert row[0].logprobs is None and torch.is_tensor(model.model.lm_head.weight)
