"""Eq. 2, the Bradley-Terry loss, in the one place it is written: `trainer` and `fit_user` both use this line."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry_loss(chosen_P: Tensor, rejected_P: Tensor) -> Tensor:
    """Eq. 2: L = -E[log sigma(f(x+) - f(x-))] over P pairs; a scalar.

    chosen_P, rejected_P: f_PRMU of x+ and of x- of each pair, [P], both of one prompt and one user. What f adds to both
    sides alike (the worth of the prompt or the user in itself) cancels.
    """
    return -logsigmoid(chosen_P - rejected_P).mean()  # [P] -> []
