"""What the PRMU can do where the truth is known, and how fast it scores: `make bench-prmu`, about three minutes.

Planted preferences (`planted_preferences.py`): 200 users with opposite tastes, a two-layer model trained from random
weights, held-out pairs. Every accuracy has n and a 95% interval (bootstrap over users). Scoring: five completions of
one 1,024-token prompt in one packed row, against the same five as separate sequences through transformers' own causal
path.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from planted_preferences import World, margins, planted_world
from results_file import write_results
from tagpr.engine.tiny import build_tiny_model
from tagpr.prmu.diagnose import accuracy, diagnose
from tagpr.prmu.initialise import build_model
from tagpr.prmu.model import PRMUConfig
from tagpr.prmu.packing import PreferenceGroup
from tagpr.prmu.past_pairs import Past
from tagpr.prmu.score import PRMU
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.progress import StageContext
from tagpr.statistics import Bootstrap

FIT_PAIRS = 8
THREADS = 2


def planted(users: int, unseen: int, train_pairs: int, heldout_pairs: int, epochs: float, seed: int) -> dict:
    """Accuracies of the options on planted preferences."""
    world = planted_world(users, unseen, train_pairs, heldout_pairs, seed)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny = build_tiny_model(Path(folder) / "tiny")
        for option in ("none", "soft-token", "profile-encoded", "mlp-head"):
            started = time.perf_counter()
            prmu = _trained(tiny, Path(folder) / option, world, option, epochs, seed)
            found = diagnose(prmu, world.pairs, seed, world.histories)
            name = option.replace("-", "_")
            figures[f"planted_{name}"] = found["seen"]["PQP"]["right"]
            figures[f"planted_{name}_generic"] = found["seen"]["PQP"]["generic"]
            figures[f"planted_{name}_training_seconds"] = round(time.perf_counter() - started, 1)
            if option != "none":
                figures[f"planted_{name}_shuffled"] = found["seen"]["PQP"]["shuffled"]
            if option == "soft-token":
                figures["planted_shuffled"] = found["seen"]["PQP"]["shuffled"]
                figures["planted_soft_token_unseen"] = found["unseen"]["PQP"]["right"]
                figures[f"planted_fit_user_{FIT_PAIRS}"] = fitted(prmu, world, seed)
            if option == "profile-encoded":
                figures["planted_profile_encoded_unseen"] = found["unseen"]["PQP"]["right"]
            print(option, {key: value for key, value in figures.items() if name in key}, flush=True)
    return figures


def _trained(backbone: Path, out: Path, world: World, option: str, epochs: float, seed: int) -> PRMU:
    settings = PRMUSettings(
        user_option=option,
        user_dropout=0.1,
        learning_rate=2e-3,
        head_learning_rate=2e-3,
        user_learning_rate=3e-2,
        epochs=epochs,
        batch_size=32,
        micro_batch_size=32,
        save_steps=100_000,
    )
    train_prmu(backbone, world.pairs, settings, StageContext(out, seed=seed), histories=world.histories)
    return PRMU.from_pretrained(out / "model", dtype="float32")


def fitted(prmu: PRMU, world: World, seed: int) -> dict:
    """Users never seen in training: a row fitted on the first pairs of each, judged on the user's other pairs."""
    rest = []
    for user in sorted({pair.user_id for pair in world.pairs if pair.split == "unseen"}):
        own = [pair for pair in world.pairs if pair.user_id == user]
        prmu.fit_user(user, Past(tuple(own[:FIT_PAIRS])))
        rest += own[FIT_PAIRS:]
    users = [pair.user_id for pair in rest]
    return accuracy(margins(prmu, rest), users, Bootstrap(seed=seed))


def scoring(layers: int, prompt: int, completion: int, group: int, repeats: int, threads: int, device: str) -> dict:
    """Seconds of one packed row against separate sequences, in a SmolLM2-shaped random model in float32."""
    torch.set_num_threads(threads)
    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        # Larger weights than usual, so that a random model's logits do depend on what it reads.
        shape |= {"initializer_range": 0.08, "max_position_embeddings": 4096}
        config = LlamaConfig(vocab_size=8192, num_hidden_layers=layers, **shape)
        LlamaForCausalLM(config).save_pretrained(folder)
        model = build_model(Path(folder), PRMUConfig({}, "none", 1, 0, 0, 0.0, [2], 0), None, seed=0)
    prmu = PRMU(model.to(device), {})
    random = torch.Generator().manual_seed(0)
    head = torch.randint(3, 8192, (prompt,), generator=random).tolist()
    tails = [torch.randint(3, 8192, (completion - 1,), generator=random).tolist() for _ in range(group)]
    packed = [PreferenceGroup("u", tuple(head), tuple(map(tuple, tails)))]
    rows = torch.tensor([[*head, *tail, 2] for tail in tails], device=device)

    @torch.no_grad()
    def separate(batch: int) -> torch.Tensor:
        model.backbone.config._attn_implementation = "sdpa"  # transformers' own way
        states = [
            model.backbone(input_ids=part, use_cache=False).last_hidden_state[:, -1] for part in rows.split(batch)
        ]
        model.backbone.config._attn_implementation = ours
        return model.head(torch.cat(states)).squeeze(-1).cpu()

    ours = model.backbone.config._attn_implementation

    ways = {
        "packed": lambda: prmu.group_logits(packed)[0],
        "separate": lambda: separate(1),
        "separate_batched": lambda: separate(group),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):  # the first round warms up
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    typical = {name: median(values) for name, values in seconds.items()}
    return {
        f"scoring_speedup_g{group}": min(typical["separate"], typical["separate_batched"]) / typical["packed"],
        "scoring_max_difference_fp32": float((ways["packed"]() - separate(1)).abs().max()),
        "scoring_logit_spread": float(separate(1).std()),
        "scoring_bound": group * (prompt + completion) / (prompt + group * completion),
        "scoring_seconds": typical,
        "scoring_shape": f"{layers} layers of SmolLM2's shape, prompt {prompt}, completion {completion}, fp32",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a look at whether it runs; writes no results file")
    parser.add_argument(
        "--device", default="cpu", help="where scoring is timed; training takes the GPU if there is one"
    )
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.small:
        print(scoring(2, 256, 32, 5, 2, args.threads, args.device))
        planted(20, 4, 6, 10, 1, args.seed)
        return
    figures = scoring(8, 1024, 96, 5, 7, args.threads, args.device)
    print(figures, flush=True)
    # A two-layer model of width 64: one thread is faster than two.
    torch.set_num_threads(1)
    figures |= planted(200, 40, 20, 28, 6, args.seed)
    command = (
        "make bench-prmu" if args.threads == THREADS else f"python benchmarks/bench_prmu.py --threads {args.threads}"
    )
    write_results("prmu", command, figures)


if __name__ == "__main__":
    main()
