"""vLLM's CPU build: as the engine of an evaluation, and as the server of RL's completions under FSDP2."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tagpr.engine import vllm_model
from tagpr.engine.loading import load_text_model
from tagpr.engine.models import load_causal_lm, load_tokenizer
from tagpr.engine.transformers_model import TransformersModel
from tagpr.engine.types import Sampling
from tagpr.engine.vllm_server import VLLMServer
from test_scale_processes import torchrun
from tiny_models import tiny_qwen3

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from shard_on_cpu import FSDP2
from vllm_on_cpu import vllm_server

pytestmark = pytest.mark.timeout(1800)  # on a machine that does other things too

JOBS = Path(__file__).parent / "scale_jobs.py"
PROMPTS = [list(range(5 + i, 40 + 3 * i)) for i in range(4)]
GREEDY = Sampling(12, temperature=0)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return tiny_qwen3(tmp_path_factory.mktemp("policy"))


def ours(policy):
    """The greedy completions of our own generation in fp32, in which a random model's ties break alike."""
    model = TransformersModel(load_causal_lm(policy, dtype="float32", device="cpu"), load_tokenizer(policy), 8)
    return model.generate(PROMPTS, GREEDY)


@pytest.mark.scale
def test_vllm_writes_what_transformers_writes(policy, monkeypatch):
    pytest.importorskip("vllm")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    options = vllm_model._engine_options() | {"enforce_eager": True, "dtype": "float32"}
    monkeypatch.setattr(vllm_model, "_engine_options", lambda: options)
    theirs = load_text_model(policy, "vllm").generate(PROMPTS, GREEDY)
    assert [[one.text for one in group] for group in theirs] == [[one.text for one in group] for group in ours(policy)]


@pytest.mark.scale
@pytest.mark.parametrize("where", ["server", "colocated"])
def test_vllm_samples_from_the_weights_in_training(policy, tmp_path, where):
    """Two processes of FSDP2: every rollout's log-probabilities are the trainer's. After the fourth rollout no weights
    are sent (the control): those of the later ones are not.
    """
    pytest.importorskip("vllm")
    out = tmp_path / "out"
    with ExitStack() as stack:
        how = {"VLLM_COLOCATED": "true"}
        if where == "server":
            address = stack.enter_context(vllm_server(policy, tmp_path / "server.log"))
            assert VLLMServer.of(address, policy, tmp_path / "kept").generate(PROMPTS, GREEDY) == ours(policy)
            how = {"VLLM_SERVER": address}
        changes = ("heldout_every=2", "steps=6")
        done = torchrun(JOBS, "trl", policy, out, *changes, timeout=600, **FSDP2, **how, SEND_WEIGHTS="4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "distributed: FSDP 2" in done.stdout
    differences = [json.loads(row)["sampling_difference"] for row in (out / "log.jsonl").read_text().splitlines()]
    assert len(differences) == 6 and max(differences[:4]) < 1e-4
    assert min(differences[4:]) > 1e-2
