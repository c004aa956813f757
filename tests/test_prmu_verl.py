"""R_PRMU through verl's reward manager: the tokens of a sample reach it, whatever kind of token `<think>` is."""

import asyncio
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from tagpr.engine.models import load_tokenizer
from tagpr.engine.text import chat_ids, learned_ids
from tagpr.errors import DataError
from tagpr.prmu import PRMU
from tagpr.prmu import verl as verl_module
from tagpr.prmu.initialise import build_model
from tagpr.prmu.model import PRMUConfig
from test_engine_think import CHAIN, CHAT, build

CASES = [("plain", "special"), ("qwen3-thinking", "special"), ("deepseek-r1", "special"), ("qwen3-thinking", "plain")]


class NaiveRewardManager:
    """What verl's manager of this name does with a sample (verl 0.7, experimental/reward_loop/reward_manager)."""

    def __init__(self, config, tokenizer, compute_score=None, reward_router_address=None, reward_model_tokenizer=None):
        self.config, self.tokenizer, self.compute_score = config, tokenizer, compute_score

    async def run_single(self, data):
        assert len(data) == 1
        item = data[0]
        response_ids = item.batch["responses"]
        length = item.batch["attention_mask"][-response_ids.shape[-1] :].sum()
        extra_info = item.non_tensor_batch.get("extra_info", {})
        extra_info["num_turns"] = None
        await asyncio.sleep(0)  # other samples run in between
        text = self.tokenizer.decode(response_ids[:length], skip_special_tokens=True)
        result = self.compute_score(
            data_source=item.non_tensor_batch["data_source"],
            solution_str=text,
            ground_truth=item.non_tensor_batch["reward_model"]["ground_truth"],
            extra_info=extra_info,
        )
        return {"reward_score": result["score"], "reward_extra_info": result}


class DataProto:
    """verl's batch: tensors and object arrays of one length."""

    def __init__(self, batch, non_tensor_batch):
        self.batch, self.non_tensor_batch = batch, non_tensor_batch

    def __len__(self):
        return len(self.batch["responses"])

    def __getitem__(self, at):
        if isinstance(at, slice):
            return DataProto(
                {k: v[at] for k, v in self.batch.items()}, {k: v[at] for k, v in self.non_tensor_batch.items()}
            )
        parts = ({k: v[at] for k, v in part.items()} for part in (self.batch, self.non_tensor_batch))
        return SimpleNamespace(**dict(zip(("batch", "non_tensor_batch"), parts, strict=True)))


def padded(rows, size, left=False):
    ids, mask = torch.zeros(len(rows), size, dtype=torch.long), torch.zeros(len(rows), size, dtype=torch.long)
    for place, row in enumerate(rows):
        where = slice(size - len(row), size) if left else slice(0, len(row))
        ids[place, where], mask[place, where] = torch.tensor(row), 1
    return ids, mask


def batch_of(prompt, completions):
    """Samples of one prompt, which share its `extra_info`, as after verl's `repeat`."""
    count = len(completions)
    prompts, prompt_mask = padded([prompt] * count, len(prompt) + 3, left=True)
    responses, response_mask = padded(completions, max(map(len, completions)) + 4)
    info = {"user_id": "ann", "prompt": CHAT}
    shared = np.empty(count, dtype=object)
    shared[:] = [info] * count
    columns = {"data_source": np.array(["mine"] * count, dtype=object), "extra_info": shared}
    columns["reward_model"] = np.array([{"ground_truth": "net"}] * count, dtype=object)
    mask = torch.cat([prompt_mask, response_mask], dim=1)
    return DataProto({"prompts": prompts, "responses": responses, "attention_mask": mask}, columns), info


@pytest.fixture
def manager(monkeypatch):
    """`TokenRewardManager`, loaded by its path as verl does."""
    name = "verl.experimental.reward_loop.reward_manager.naive"
    for place in range(1, name.count(".") + 2):
        module = ModuleType(".".join(name.split(".")[:place]))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    sys.modules[name].NaiveRewardManager = NaiveRewardManager
    file = importlib.util.spec_from_file_location("manager", verl_module.MANAGER)
    loaded = importlib.util.module_from_spec(file)
    file.loader.exec_module(loaded)
    return loaded.TokenRewardManager


@pytest.mark.parametrize(("template", "kind"), CASES)
def test_every_sample_is_scored_by_its_own_tokens(tmp_path, manager, template, kind):
    folder = build(tmp_path / "policy", template, kind)
    tokenizer = load_tokenizer(folder)
    prmu = PRMU(build_model(folder, PRMUConfig({}, "soft-token", 2, 1, 0, 0.2, [2, 0], 0), None, 0), {"ann": 0})
    prmu.save(tmp_path / "prmu")
    prmu = PRMU.from_pretrained(tmp_path / "prmu")
    prompt = chat_ids(tokenizer, CHAT)
    completions = [learned_ids(tokenizer, text) for text in (CHAIN, CHAIN.replace("net", "doc"), "net")]
    expected = [prmu.score(["ann"], [prompt], [completion])[0] for completion in completions]
    texts = []

    def compute_score(solution_str, **given):
        texts.append(solution_str)
        models = {"model": str(tmp_path / "prmu"), "tokenizer": str(folder)}
        return verl_module.compute_score(solution_str=solution_str, **given, **models)

    data, info = batch_of(prompt, completions)
    judge = manager(None, tokenizer, compute_score)

    async def together():
        return await asyncio.gather(*(judge.run_single(data[i : i + 1]) for i in range(3)))

    rewards = [one["reward_score"] for one in asyncio.run(together())]
    assert rewards == expected and len(set(rewards)) == 3
    assert texts[:2] == [CHAIN, CHAIN.replace("net", "doc")]  # the assistant's whole turn
    assert "completion_ids" not in info  # nothing is left in what samples share
    # without the manager: the same score where verl's text has everything, else a refusal
    plain = NaiveRewardManager(None, tokenizer, compute_score)
    if kind == "special":
        with pytest.raises(DataError, match=r"</think> and <think> are special tokens .* TokenRewardManager"):
            asyncio.run(plain.run_single(data[:1]))
    else:
        assert asyncio.run(plain.run_single(data[:1]))["reward_score"] == expected[0]
        whole = compute_score(CHAIN, data_source="mine", extra_info=info)["score"]  # a text that has the opening too
        assert whole == expected[0]
