"""Eqs. 2 and 3 as the paper writes them, and that they are the code that runs."""

import math

import torch
from torch.nn.functional import logsigmoid

from tagpr.files import read_jsonl
from tagpr.prmu import fit_user, trainer
from tagpr.prmu.loss import bradley_terry_loss
from tagpr.prmu.past_pairs import Past
from tagpr.prmu.score import PRMU
from tagpr.progress import StageContext
from test_prmu_train import SETTINGS, backbone, make_pairs  # noqa: F401  (a fixture)


def test_equation_2_by_hand() -> None:
    chosen, rejected = [2.0, -1.0, 0.5], [1.0, 3.0, 0.5]
    by_hand = -sum(math.log(1 / (1 + math.exp(b - a))) for a, b in zip(chosen, rejected, strict=True)) / 3
    loss = bradley_terry_loss(torch.tensor(chosen), torch.tensor(rejected))
    assert loss.shape == () and math.isclose(loss.item(), by_hand, rel_tol=1e-6)
    shifted = bradley_terry_loss(torch.tensor(chosen) + 7, torch.tensor(rejected) + 7)
    assert math.isclose(shifted.item(), by_hand, rel_tol=1e-5)  # what both sides share cancels


def test_the_line_in_loss_is_what_trains_and_what_fits(backbone, tmp_path, monkeypatch) -> None:  # noqa: F811
    """Each logged loss is the mean of what `bradley_terry_loss` gave, and equals the formula written out here."""
    seen: list[tuple[float, float]] = []

    def noting(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        loss = bradley_terry_loss(chosen, rejected)
        seen.append((loss.item(), -logsigmoid(chosen - rejected).mean().item()))
        return loss

    monkeypatch.setattr(trainer, "bradley_terry_loss", noting)
    monkeypatch.setattr(fit_user, "bradley_terry_loss", noting)
    trainer.train_prmu(backbone, make_pairs(), SETTINGS, StageContext(tmp_path))
    assert all(ours == written for ours, written in seen)
    log = read_jsonl(tmp_path / "log.jsonl")
    assert len(seen) == 18 and len(log) == 10  # two epochs of 18 prompts in micro batches of 2, the last step of one
    assert math.isclose(log[0]["loss"], (seen[0][0] + seen[1][0]) / 2, rel_tol=1e-6)
    before = len(seen)
    PRMU.from_pretrained(tmp_path / "model").fit_user("new", Past(tuple(make_pairs(4))))
    assert len(seen) > before


def test_equation_3_is_the_sigmoid_of_f(backbone, tmp_path) -> None:  # noqa: F811
    trainer.train_prmu(backbone, make_pairs(), SETTINGS, StageContext(tmp_path))
    prmu = PRMU.from_pretrained(tmp_path / "model")
    pair = make_pairs()[0]
    given = ([pair.user_id] * 2, [pair.prompt_ids] * 2, [pair.chosen_ids, pair.rejected_ids])
    for reward, logit in zip(prmu.score(*given), prmu.logits(*given).tolist(), strict=True):
        assert math.isclose(reward, 1 / (1 + math.exp(-logit)), rel_tol=1e-5) and 0 < reward < 1
