"""What each stage reads from outside the run, by content: edited or appended, the stage is made again; unchanged, not.

Keys are the recipe's, values digests. Every function has the same form, `Stage.reads`'.
"""

from pathlib import Path

from tagpr.clients.settings import GeneratorSettings
from tagpr.data.formats.feedback import feedback_digest, is_feedback_store
from tagpr.data.inputs import data_fingerprints
from tagpr.files import fingerprint, model_digests
from tagpr.plugins import code_digest, is_own, load_own
from tagpr.profiles.settings import Retriever
from tagpr.rewards.settings import RUBRIC_PREFIX
from tagpr.runs.run import Run


def data_files(run: Run) -> dict[str, str]:
    """The data, the cards and the user's own code that the data stage reads."""
    return data_fingerprints(run.recipe.data, run.base)


def prompt_files(run: Run) -> dict[str, str]:
    """The user's own prompt templates, and the models in folders that write the profile memory or retrieve."""
    templates, profile = run.recipe.prompt.templates, run.recipe.profile
    own = {"prompt.templates": fingerprint(templates)} if templates else {}
    if profile.retriever is Retriever.DENSE:
        own |= _encoder("profile.encoder", profile.encoder)
    return own | _generator("profile.memory.writer", profile.memory.writer)


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
        own |= _generator(f"chains.{role}", getattr(chains, role))
    own |= _encoder("chains.encoder", chains.encoder)
    if chains.vocabulary == "discover":
        own |= _encoder("chains.discovery.encoder", chains.discovery.encoder)
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
    """The user's own rubric, by which judges mark, and the judges that are models in folders."""
    judge = run.recipe.judge
    if judge is None:
        return {}
    path = run.base / judge.rubric
    found = {"judge.rubric": fingerprint(path)} if path.is_file() else {}
    for number, block in enumerate(judge.judges):
        found |= _generator(f"judge.judges.{number}", block)
    return found


def taught_files(run: Run) -> dict[str, str]:
    """The checkpoint of another run that takes the SFT stage's place, and the tags it was taught."""
    return _checkpoint("sft.checkpoint", run.recipe.sft.checkpoint) | vocabulary_files(run)


def _generator(key: str, block: object) -> dict[str, str]:
    """The model of a block that runs it here; the name at an endpoint is no path."""
    if isinstance(block, GeneratorSettings) and block.engine != "endpoint":
        return _checkpoint(key, block.model)
    return {}


def _encoder(key: str, spec: str | None) -> dict[str, str]:
    """A sentence encoder, with its modules after the first (1_Pooling, 2_Dense), which are folders within its own."""
    found = _checkpoint(key, spec)
    if spec and found:
        for module in sorted(Path(spec).expanduser().glob("[0-9]*_*")):
            found |= _checkpoint(f"{key}/{module.name}", str(module))
    return found


def _checkpoint(key: str, spec: str | None) -> dict[str, str]:
    """A model folder by its content; nothing for what is no folder: a model of the hub or of a package does not change
    under its name.
    """
    folder = Path(spec).expanduser() if spec else None
    if folder is None or not folder.is_dir():
        return {}
    return {f"{key}/{name}" if name else key: digest for name, digest in model_digests(folder).items()}
