"""The reward model itself: packing is exact, pooling is by mask, users do what they should, saving loses nothing."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
import transformers
from torch.nn.functional import logsigmoid

from tagpr.engine.tiny import build_tiny_model
from tagpr.errors import DataError, ModelError
from tagpr.prmu.data import Pair
from tagpr.prmu.fit_user import fit_row
from tagpr.prmu.frozen_states import FrozenStates
from tagpr.prmu.initialise import build_model
from tagpr.prmu.model import PRMUConfig, PRMUModel
from tagpr.prmu.packing import PreferenceGroup, ended, pack
from tagpr.prmu.past_pairs import Past
from tagpr.prmu.score import PRMU, encode_items
from tagpr.prmu.settings import PRMUSettings
from tagpr.prmu.trainer import train_prmu
from tagpr.prmu.users import BasisHead, PrototypeHead
from tagpr.progress import StageContext

OPTIONS = ("soft-token", "profile-encoded", "mlp-head", "basis", "prototypes", "none")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


def prmu(backbone: Path, option: str = "soft-token", users: int = 3, frozen_layers: int = 0) -> PRMU:
    users = 0 if option == "none" else users
    config = PRMUConfig({}, option, 2, users, frozen_layers, 0.2, [2, 0], 0, basis_rank=3, prototypes=3)
    model = build_model(backbone, config, None, seed=0)
    with torch.no_grad():
        if model.users is not None:
            model.users.offsets.normal_()
        model.head.apply(lambda m: m.weight.normal_(std=0.1) if isinstance(m, torch.nn.Linear) else None)
    histories = {}
    if option == "profile-encoded":
        histories = {f"u{i}": encode_items(model, [[5 + i, 6], [9, 3 + i, 40]]) for i in range(users)}
    return PRMU(model, {f"u{i}": i for i in range(users)}, histories=histories)


def sequences(count: int, seed: int = 0) -> tuple[list[str], list[list[int]], list[list[int]]]:
    random = Random(seed)
    ids = lambda n: [random.randrange(3, 500) for _ in range(n)]  # noqa: E731
    prompts = [ids(random.randint(5, 30)) for _ in range(-(-count // 3))]
    order = [index % len(prompts) for index in range(count)]
    return [f"u{i % 3}" for i in order], [prompts[i] for i in order], [ids(random.randint(1, 25)) for _ in order]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("frozen_layers", [0, 1, 2])
def test_shared_prompt_equals_separate_sequences(backbone, option, frozen_layers) -> None:
    model = prmu(backbone, option, frozen_layers=frozen_layers)
    users, prompts, completions = sequences(12)
    shared = model.logits(users, prompts, completions)
    model.model.states = FrozenStates()  # a backbone that is frozen whole keeps what it has run
    alone = torch.cat([model.logits([u], [p], [c]) for u, p, c in zip(users, prompts, completions, strict=True)])
    assert torch.allclose(shared, alone, atol=1e-5)
    assert shared.std() > 1e-2


@pytest.mark.parametrize("side", ["left", "right"])
def test_pooling_is_by_mask_for_any_padding_side(backbone, side) -> None:
    model = prmu(backbone).model
    texts = [[7, 8, 9, 10, 2], [30, 31, 2]]
    rows = torch.tensor([1, 2])
    alone = torch.cat([model(torch.tensor([t]), user_rows=rows[i : i + 1]).logits for i, t in enumerate(texts)])
    padding = [[0] * (5 - len(text)) for text in texts]
    ids = [p + t if side == "left" else t + p for t, p in zip(texts, padding, strict=True)]
    mask = [[int(token != 0) for token in row] for row in ids]
    assert torch.allclose(model(torch.tensor(ids), torch.tensor(mask), rows).logits, alone, atol=1e-5)


@pytest.mark.parametrize("option", OPTIONS)
def test_user_decides_except_with_none(backbone, option) -> None:
    model = prmu(backbone, option)
    _, prompts, completions = sequences(3)
    scores = [model.logits([user] * 3, prompts, completions) for user in ("u0", "u1", "somebody else")]
    for other in scores[1:]:
        margins = (scores[0] - scores[0][0]) - (other - other[0])  # what a constant of the user cannot change
        assert (margins.abs().max() > 1e-3) == (option != "none")


def test_linear_head_on_a_sum_has_no_use_for_the_user(backbone) -> None:
    """Why there is no option "add e_u to the pooled state": nothing a pair or a group could see, and no gradient."""
    hidden = torch.randn(2, 64)  # pooled states of the two completions of one pair
    embedding = torch.randn(3, 64, requires_grad=True)
    head = torch.randn(64)
    logits = torch.stack([(hidden + embedding[user]) @ head for user in range(3)])  # [user, 2]
    margins = logits[:, 0] - logits[:, 1]
    assert torch.allclose(margins, margins[:1].expand(3), atol=1e-4)
    (gradient,) = torch.autograd.grad(-torch.nn.functional.logsigmoid(margins).sum(), embedding)
    assert gradient.abs().max() < 1e-6
    # The same pair through each option there is: a gradient.
    for option in ("soft-token", "profile-encoded", "mlp-head", "basis", "prototypes"):
        model = prmu(backbone, option)
        group = PreferenceGroup("u1", (5, 6, 7), ((8, 9), (10,)), ((0, 1),), history=model.histories.get("u1"))
        chosen, rejected = model.model(**pack([group], [1], [2], 0)).logits
        (rejected - chosen).backward()  # eq. 2 up to a positive factor
        assert model.model.users.offsets.grad[1].norm() > 1e-4
        assert not model.model.users.offsets.grad[[0, 2]].any()


@pytest.mark.parametrize("option", OPTIONS)
def test_save_and_load_give_bit_equal_scores(backbone, option, tmp_path) -> None:
    model = prmu(backbone, option)
    arguments = sequences(9)
    before = model.score(*arguments)
    model.save(tmp_path / "prmu")
    assert PRMU.from_pretrained(tmp_path / "prmu", dtype="float32").score(*arguments) == before
    assert all(0 < score < 1 for score in before)
    assert {path.suffix for path in (tmp_path / "prmu").iterdir()} == {".json", ".safetensors"}


def test_bad_input_is_one_clear_line(backbone, tmp_path) -> None:
    model = prmu(backbone)
    model.on_unknown = "error"
    with pytest.raises(DataError, match="'nobody' has no row in the user map"):
        model.score(["nobody"], [[5]], [[6]])
    with pytest.raises(DataError, match="2 user ids, 1 prompts, 1 completions"):
        model.score(["u0", "u1"], [[5]], [[6]])
    encoding = prmu(backbone, "profile-encoded")
    encoding.on_unknown = "encode"
    with pytest.raises(DataError, match="no history was given"):
        encoding.score(["nobody"], [[5]], [[6]])
    assert encoding.score(["nobody"], [[5]], [[6]], {"nobody": [[5, 6]]}) != encoding.score(
        ["nobody"], [[5]], [[6]], {"nobody": [[70, 80]]}
    )
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        PRMU.from_pretrained(tmp_path)
    model.save(tmp_path / "prmu")
    (tmp_path / "prmu" / "users.json").write_text(json.dumps({"u0": 0, "u1": 1}))
    with pytest.raises(ModelError, match=r"users\.json names 2 users, model\.safetensors has 3 rows"):
        PRMU.from_pretrained(tmp_path / "prmu")
    (tmp_path / "prmu" / "prmu.json").write_text("{")
    with pytest.raises(ModelError, match="is damaged"):
        PRMU.from_pretrained(tmp_path / "prmu")


def test_completions_end_in_exactly_one_end_token() -> None:
    assert ended([5, 6], [2, 0]) == ended([5, 6, 2, 0, 0], [2, 0]) == [5, 6, 2]


def test_basis_and_prototypes_are_what_they_say() -> None:
    """By hand: weights of shared rewards; nearness to a mixture of prototypes, which no weight can leave."""
    basis = BasisHead(2, 2)
    basis.basis.weight.data = torch.eye(2)
    found = basis(torch.tensor([[3.0, 5.0], [3.0, 5.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    assert torch.allclose(found, torch.tensor([3.0, -5.0]) / 2**0.5)
    near = PrototypeHead(2, 2)
    near.project.weight.data, near.prototypes.data = torch.eye(2), torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    pooled = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    found = near(pooled, torch.tensor([[0.0, 0.0], [-30.0, 30.0], [-30.0, 30.0]]))
    assert torch.allclose(found, -torch.tensor([0.0, 0.0, 1.0]) / 2**0.5, atol=1e-5)


def test_layers_are_cut_and_checked(backbone) -> None:
    config = PRMUConfig({}, "none", 2, 0, 0, 0.2, [2], 0)
    model = build_model(backbone, config, layers=1, seed=0)
    assert isinstance(model, PRMUModel) and len(model.backbone.layers) == 1
    with pytest.raises(ModelError, match="has 2 layers"):
        build_model(backbone, config, layers=3, seed=0)


def test_adding_or_removing_a_user_changes_no_other_score(backbone, tmp_path) -> None:
    for option in ("soft-token", "profile-encoded"):
        model = prmu(backbone, option)
        users, prompts, completions = sequences(9)
        rows = [i for i, user in enumerate(users) if user != "u1"]
        others = [[values[i] for i in rows] for values in (users, prompts, completions)]
        before = model.score(*others)
        model.add_user("new", [[7, 8, 9]])
        assert model.score(*others) == before
        model.remove_user("u1")
        assert model.users == {"u0": 0, "u2": 1, "new": 2} and model.score(*others) == before
        model.save(tmp_path / option)
        again = PRMU.from_pretrained(tmp_path / option, dtype="float32")
        assert again.users == model.users and again.score(*others) == before
        with pytest.raises(DataError, match="already has a row"):
            model.add_user("new")
        with pytest.raises(DataError, match="no row to remove"):
            model.remove_user("u1")
        assert model.score(["new"], [[5, 6]], [[7]]) == again.score(["new"], [[5, 6]], [[7]])


@pytest.mark.parametrize("option", ["soft-token", "mlp-head", "basis", "prototypes"])
def test_fitting_a_user_moves_only_that_row(backbone, option) -> None:
    torch.manual_seed(0)
    model = prmu(backbone, option)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    chosen, rejected = (8, 9, 10), (30, 31)
    pairs = [Pair("PQP", "train", f"e{i}", "new", "t", (5, 6 + i), chosen, rejected) for i in range(4)]
    loss = model.fit_user("new", Past(tuple(pairs)))
    after = model.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "users.offsets")
    assert torch.equal(after["users.offsets"][:3], before["users.offsets"]) and len(after["users.offsets"]) == 4
    prompts = [[5, 6 + i] for i in range(4)]

    def margins(user: str) -> torch.Tensor:
        better, worse = model.logits([user] * 8, prompts * 2, [chosen] * 4 + [rejected] * 4).chunk(2)
        return better - worse

    generic, fitted = margins("nobody"), margins("new")
    assert float(-logsigmoid(fitted).mean()) == pytest.approx(loss, abs=1e-5)
    assert loss < float(-logsigmoid(generic).mean())
    if option != "prototypes":  # a mixture of three given prototypes cannot win every pair
        assert fitted[0] > generic[0] and loss < 0.7
    with pytest.raises(DataError, match="no pair to fit user 'x' on"):
        model.fit_user("x", Past(()))
    with pytest.raises(DataError, match="it has no users"):
        prmu(backbone, "none").add_user("x")


@pytest.mark.parametrize("kind", ["SequenceClassification", "CausalLM"])
def test_backbones_of_both_kinds_load_and_a_trained_head_is_kept(kind, tmp_path) -> None:
    """A reward model of Skywork's kind (Qwen3, one label) scores through PRMU what it scores by itself."""
    torch.manual_seed(0)
    shape = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_labels": 1, "pad_token_id": 0}
    own = getattr(transformers, f"Qwen3For{kind}")(transformers.Qwen3Config(**shape, **heads)).eval()
    own.save_pretrained(tmp_path / "backbone")
    model = build_model(tmp_path / "backbone", PRMUConfig({}, "none", 2, 0, 0, 0.2, [2], 0), None, seed=0)
    prompt, completions = [5, 6, 7, 8], [[9, 10, 11], [12], [13, 14]]
    scored = PRMU(model, {}).logits(["u"] * 3, [prompt] * 3, completions)
    if kind == "SequenceClassification":
        with torch.no_grad():
            expected = [own(torch.tensor([[*prompt, *answer, 2]])).logits.item() for answer in completions]
        assert scored.tolist() == pytest.approx(expected, abs=1e-5) and max(expected) - min(expected) > 1e-3
    assert build_model(tmp_path / "backbone", PRMUConfig({}, "soft-token", 2, 3, 1, 0.2, [2], 0), None, seed=0).users


def test_a_backbone_that_is_frozen_whole_runs_each_text_once(backbone, monkeypatch) -> None:
    one, other = prmu(backbone, "basis", frozen_layers=2), prmu(backbone, "mlp-head", frozen_layers=2)
    one.model.states = other.model.states = FrozenStates()
    runs = []
    run = PRMUModel._hidden
    monkeypatch.setattr(PRMUModel, "_hidden", lambda self, ids, *rest: runs.append(len(ids)) or run(self, ids, *rest))
    users, prompts, completions = sequences(12)
    first = one.logits(users, prompts, completions)
    assert sum(runs) == 4  # prompts
    assert torch.equal(one.logits(users[::-1], prompts[::-1], completions[::-1]).flip(0), first)
    other.logits(users, prompts, completions)
    assert sum(runs) == 4
    one.logits(users[:1], prompts[:1], [[7, 8, 9]])
    assert sum(runs) == 5


def test_a_saved_model_of_a_fixed_encoder_scores_the_same(backbone, tmp_path) -> None:
    pairs = [
        Pair("human", "train", f"e{i}", f"u{i % 3}", "t", (3 + i, 4), (10 + i % 4,), (20 + i % 5,)) for i in range(12)
    ]
    settings = PRMUSettings(user_option="basis", basis_rank=2, frozen_layers=2, epochs=2, batch_size=4)
    train_prmu(backbone, pairs, settings, StageContext(tmp_path / "out"))
    loaded = PRMU.from_pretrained(tmp_path / "out" / "model", dtype="float32")
    assert loaded.model.is_fixed_encoder and loaded.model.state_scale.std() > 0
    users, prompts = [pair.user_id for pair in pairs], [pair.prompt_ids for pair in pairs]
    before = loaded.logits(users, prompts, [pair.chosen_ids for pair in pairs])
    loaded.save(tmp_path / "again")
    again = PRMU.from_pretrained(tmp_path / "again", dtype="float32")
    again.model.states = FrozenStates()
    assert torch.allclose(again.logits(users, prompts, [pair.chosen_ids for pair in pairs]), before, atol=1e-5)


def test_the_row_that_the_last_step_of_fitting_leads_to_is_judged(backbone) -> None:
    torch.manual_seed(0)
    model = prmu(backbone, "soft-token")
    groups = [PreferenceGroup("u0", (5, 6 + i), ((8, 9, 10), (30, 31)), ((0, 1),)) for i in range(4)]
    losses = [fit_row(model.model, groups, 0, starts=0, steps=steps, learning_rate=1e-3) for steps in (0, 1)]
    assert losses[1] < losses[0]
