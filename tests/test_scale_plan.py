"""`tagpr plan` and `tagpr launch` through the real command: what fits, what is refused and how, what is launched."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from bench_plan import QWEN3_8B
from tagpr.cli import app
from tagpr.engine.shared_prompt import PromptGroup
from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import RecipeError
from tagpr.recipe import load_recipe
from tagpr.training.scale.launch import Launch, config_file, launch_command
from tagpr.training.scale.memory_model import Training
from tagpr.training.scale.shape import Pass, shape_of

REWARD = QWEN3_8B | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders with the configurations of Qwen3-8B and of the 0.6B reward backbone, and nothing else."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("policy", QWEN3_8B), ("reward", REWARD)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return folder


def planned(models, recipe, *words):
    own = [f"model={models / 'policy'}", f"prmu.backbone={models / 'reward'}"]
    return CliRunner().invoke(app, ["plan", recipe, *own, *map(str, words)])


@pytest.mark.slow
def test_the_paper_recipe_fits_eight_gpus_sharded_and_not_otherwise(models):
    fits = planned(models, "lamp-qwen3-8b", "--gpus", 8, "--gpu-memory", 80)
    assert fits.exit_code == 0, fits.output
    assert "8.19B" in fits.output and "guided" in fits.output
    whole = planned(models, "lamp-qwen3-8b", "--gpus", 8, "--gpu-memory", 80, "--config", "ddp")
    assert isinstance(whole.exception, RecipeError)
    assert "launch with --config fsdp2" in str(whole.exception)
    nodes = planned(models, "lamp-qwen3-8b-nodes", "--gpus", 16, "--gpu-memory", 80, "--config", "several-nodes")
    assert nodes.exit_code == 0, nodes.output


@pytest.mark.slow
def test_one_gpu_needs_adapters(models):
    full = planned(models, "lamp-qwen3-8b", "--gpus", 1, "--gpu-memory", 80)
    assert "lora_rank=16" in str(full.exception)
    adapted = planned(models, "lamp-qwen3-8b-qlora", "--gpus", 1, "--gpu-memory", 24)
    assert adapted.exit_code == 0, adapted.output
    tight = planned(models, "lamp-qwen3-8b-qlora", "--gpus", 1, "--gpu-memory", 4)
    assert "use more GPUs or larger ones" in str(tight.exception)


def test_a_small_model_fits():
    found = CliRunner().invoke(app, ["plan", "smoke", "--gpu-memory", "8"])
    assert found.exit_code == 0, found.output
    assert [line.split()[0] for line in found.output.splitlines()[2:5]] == ["sft", "guided", "exploratory"]


def test_sizes_are_those_of_the_model(tmp_path):
    folder = build_tiny_model(tmp_path / "tiny")
    shape = shape_of(str(folder))
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.root + shape.layers * shape.layer == shape.parameters
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape.adapters(4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    whole, divided = (Training(shape, 2, sharded, bf16=False).state() for sharded in (False, True))
    assert whole == 16 * shape.parameters == 2 * divided


def test_activations_grow_with_layers_and_shrink_with_checkpointing(tmp_path):
    shape = shape_of(str(build_tiny_model(tmp_path / "tiny")))
    groups = [PromptGroup(range(1, 200), [range(1, 50)] * 3)]
    kept, again = (shape.activations(groups, Pass(checkpointing=again)) for again in (False, True))
    assert kept > 1.3 * again > 0
    assert shape.activations(groups * 2, Pass()) > 1.7 * kept


def test_launching_builds_accelerates_command(tmp_path):
    words = launch_command(Launch("fsdp2", processes=4), "smoke", ["seed=1"], tmp_path)
    assert words[1:3] == ["-m", "accelerate.commands.launch"] and words[words.index("--num_processes") + 1] == "4"
    assert words[-6:] == ["tagpr.cli", "run", "smoke", "seed=1", "--runs", str(tmp_path)]
    shown = CliRunner().invoke(app, ["launch", "smoke", "--config", "zero3", "--show"])
    assert shlex.split(shown.output)[3:5] == ["--config_file", str(config_file("zero3"))]
    with pytest.raises(RecipeError, match="--main-address"):
        launch_command(Launch("several-nodes", rank=1), "smoke", [], tmp_path)
    nodes = launch_command(Launch("several-nodes", rank=1, address="first"), "smoke", [], tmp_path)
    assert nodes[nodes.index("--machine_rank") : nodes.index("-m", 3)] == [
        *("--machine_rank", "1", "--main_process_ip", "first")
    ]
    assert "--standalone" in launch_command(Launch("ddp", processes=2), "smoke", [], tmp_path)


def test_the_recipes_of_one_paper_differ_only_in_where_they_run():
    paper, nodes = (load_recipe(name) for name in ("lamp-qwen3-8b", "lamp-qwen3-8b-nodes"))
    apart = {name for name in type(paper).model_fields if getattr(paper, name) != getattr(nodes, name)}
    assert apart == {"name", "rl"}
    for name in ("fsdp2", "zero3", "several-nodes"):
        config = yaml.safe_load(config_file(name).read_text())
        assert config["distributed_type"] in ("FSDP", "DEEPSPEED")
        assert config["mixed_precision"] == "no", "it would overrule a recipe's precision: fp32"
