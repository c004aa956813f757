"""`export`: a trained checkpoint as an ordinary Hugging Face folder that says how it is to be asked.

Besides the checkpoint (adapters are merged when a stage is saved) it holds `README.md`, the model card; `prompt.json`,
everything that words a prompt; and `prompt_example.py`, which builds it without this package.
"""

import os
import re
import shutil
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from tagpr import __version__
from tagpr.errors import DataError, RunError
from tagpr.files import write_json, write_text
from tagpr.prompts.escape import ESCAPE, ESCAPED
from tagpr.prompts.ids import control_tokens, takes_system
from tagpr.prompts.messages import prompt_templates
from tagpr.serve.model_card import model_card
from tagpr.serve.served_run import ServedRun, SystemName
from tagpr.tasks.templates import render


def export(run: str | Path, out: Path, system: SystemName | None = None) -> Path:
    """Write the folder and return it; it appears whole or not at all.

    system: the last that was trained where None. Raises DataError if `out` is there already, RunError for a system
    that the run does not have or a prompt in LaMP's official wording, which has no templates.
    """
    served = ServedRun.open(run)
    chosen = system or served.default_system
    checkpoint = served.checkpoint(chosen)
    if served.prompt.style != "tagged":
        raise RunError(
            f"{served.folder.path}: prompt.style {served.prompt.style} has no templates; only tagged exports"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there already; name a new folder")
    work = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(checkpoint, work)  # no hard links: who edits the folder must not change the run
    for name in ("manifest.json", "trainer_state.json"):
        (work / name).unlink(missing_ok=True)
    write_json(work / "prompt.json", prompt_spec(served, checkpoint))
    example = (resources.files("tagpr.serve.exported") / "prompt_example.txt").read_text(encoding="utf-8")
    write_text(work / "prompt_example.py", example)
    write_text(work / "README.md", model_card(served, chosen, out.name, __version__))
    if out.is_dir():
        out.rmdir()
    out.parent.mkdir(parents=True, exist_ok=True)
    os.replace(work, out)
    return out


def prompt_spec(served: ServedRun, checkpoint: Path) -> dict[str, object]:
    """What `prompt.json` holds: cards with the messages before a user's text, templates, tags, budget, and escapes."""
    from tagpr.engine.models import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    system, user = prompt_templates(served.prompt.templates)
    cards: dict[str, object] = {}
    for name, task in served.tasks.items():
        instruction = render(system, {"task": task, "tags": list(served.vocabulary.names)}).strip()
        untagged = render(system, {"task": task, "tags": []}).strip()  # what the budget counts (build_prompt)
        own = {
            "input_name": task.input_name,
            "output_name": task.output_name,
            "messages": _messages(instruction, takes_system(tokenizer)),
            "room": served.prompt.max_prompt_tokens - len(tokenizer(untagged, add_special_tokens=False)["input_ids"]),
        }
        cards[name] = task.model_dump(mode="json") | own
    return {
        "tasks": cards,
        "system": system,
        "user": user,
        "tags": {tag.name: tag.definition for tag in served.vocabulary.tags},
        "max_prompt_tokens": served.prompt.max_prompt_tokens,
        "history": {"retriever": str(served.profile.retriever), "k": served.profile.k},
        "escape": ESCAPE,
        "escaped": ESCAPED,
        "control": _openings(control_tokens(tokenizer)),
        "broken": r"\1\\",
        "max_new_tokens": served.decoding.max_new_tokens,
    }


def _messages(instruction: str, system_turn: bool) -> list[dict[str, str]]:
    """The messages of a prompt but for the user's text, which goes to the end of the last one."""
    if system_turn:
        return [{"role": "system", "content": instruction}, {"role": "user", "content": ""}]
    return [{"role": "user", "content": f"{instruction}\n\n"}]


def _openings(tokens: Iterable[str]) -> str:
    """A pattern for the first character of any of these tokens; single characters cannot be broken."""
    alternatives = "|".join(re.escape(token) for token in sorted(tokens) if len(token) > 1)
    return f"(?=(?:{alternatives or '(?!)'}))(.)"


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to the hub as `OWNER/NAME`, private if it is new; returns its address.

    The token comes from the environment (`HF_TOKEN`) or `hf auth login`. Raises RunError for what the hub says.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="tagpr export")
    except LocalTokenNotFoundError:
        raise RunError("--push: no token; set HF_TOKEN") from None
    except HFValidationError as error:
        raise RunError(f"--push {repository}: {str(error).splitlines()[0]}") from None
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"--push {repository}: {reason}; the folder {folder} is complete") from None
    return str(address)
