"""What each stage reads from outside the run, by content: edited or appended, the stage is made again; unchanged, not.

Keys are the recipe's, values digests. Every function has the same form, `Stage.reads`'.
"""

from pathlib import Path

from tagpr.clients.settings import GeneratorSettings
from tagpr.data.formats.feedback import feedback_digest, is_feedback_store
from tagpr.data.inputs import data_fingerprints
from tagpr.files import fingerprint, weights_key
from tagpr.plugins import code_digest, is_own, load_own
from tagpr.rewards.settings import RUBRIC_PREFIX
from tagpr.runs.run import Run


def data_files(run: Run) -> dict[str, str]:
    """The data, the cards and the user's own code that the data stage reads."""
    return data_fingerprints(run.recipe.data, run.base)


def prompt_files(run: Run) -> dict[str, str]:
    """The user's own prompt templates, and the model in a folder that writes the profile memory."""
    templates, writer = run.recipe.prompt.templates, run.recipe.profile.memory.writer
    own = {"prompt.templates": fingerprint(templates)} if templates else {}
    return own | _checkpoint("profile.memory.writer", writer.model if isinstance(writer, GeneratorSettings) else None)


def model_files(run: Run) -> dict[str, str]:
    """The untrained policy, if it is a folder of the user's own."""
    return _checkpoint("model", run.recipe.model)


def vocabulary_files(run: Run) -> dict[str, str]:
    """The user's own vocabulary."""
    named = run.recipe.chains.vocabulary
    return {"chains.vocabulary": fingerprint(named)} if isinstance(named, Path) else {}


def chain_files(run: Run) -> dict[str, str]:
    """The vocabulary, the written chains and local models that stage 0 reads, besides model and templates."""
    chains = run.recipe.chains
    own = {"chains.written": fingerprint(chains.written)} if chains.written is not None else {}
    for role in ("teacher", "judge", "tagger"):
        block = getattr(chains, role)
        own |= _checkpoint(f"chains.{role}", block.model if isinstance(block, GeneratorSettings) else None)
    return policy_files(run) | vocabulary_files(run) | own


def policy_files(run: Run) -> dict[str, str]:
    """Model and templates."""
    return model_files(run) | prompt_files(run)


def prmu_files(run: Run) -> dict[str, str]:
    """The reward model's own backbone and human pairs, besides model and templates."""
    pairs = run.recipe.prmu.pairs
    human = {}
    if pairs and Path(pairs.path).exists():
        path = Path(pairs.path)
        human = {"prmu.pairs": feedback_digest(path) if is_feedback_store(path) else fingerprint(path)}
    return policy_files(run) | _checkpoint("prmu.backbone", run.recipe.prmu.backbone) | human


def reward_files(run: Run) -> dict[str, str]:
    """The code of a user's own reward, besides the templates."""
    spec = run.recipe.rewards.verifiable
    own = {}
    if spec.startswith(RUBRIC_PREFIX):
        path = run.base / spec.removeprefix(RUBRIC_PREFIX)
        return prompt_files(run) | ({"rewards.verifiable": fingerprint(path)} if path.is_file() else {})
    if is_own(spec, "rewards"):
        own = {"rewards.verifiable": code_digest(spec, "rewards", run.base)}
        if own["rewards.verifiable"]:
            load_own(spec, "rewards", run.base)  # a wrong name is said before anything is trained with it
    return prompt_files(run) | own


def rubric_files(run: Run) -> dict[str, str]:
    """The user's own rubric, by which judges mark."""
    named = run.recipe.judge.rubric if run.recipe.judge is not None else ""
    path = run.base / named
    return {"judge.rubric": fingerprint(path)} if named and path.is_file() else {}


def taught_files(run: Run) -> dict[str, str]:
    """The checkpoint of another run that takes the SFT stage's place, and the tags it was taught."""
    return _checkpoint("sft.checkpoint", run.recipe.sft.checkpoint) | vocabulary_files(run)


def _checkpoint(key: str, spec: str | None) -> dict[str, str]:
    """A model folder by its small files and by its weights; nothing for what is no folder: a model of the
    hub or of a package does not change under its name.
    """
    folder = Path(spec).expanduser() if spec else None
    if folder is None or not folder.is_dir():
        return {}
    small = [path for ending in ("json", "jinja", "txt", "model") for path in sorted(folder.glob(f"*.{ending}"))]
    return {key: weights_key(folder)} | {f"{key}/{path.name}": fingerprint(path) for path in small}
