"""A NaN from one of TRL's reward functions is an error, not a reward left out.

TRL reads None as "this function does not score this completion", turns it into NaN and leaves NaN out of the sum. A NaN
that a function computed would be left out the same way, without a word.
"""

import functools
import math
from collections.abc import Awaitable, Callable, Sequence

from trl.trainer.utils import is_async_callable

from tagpr.errors import RunError

Rewards = Sequence[float | None]


def refusing_nan(
    function: Callable[..., Rewards | Awaitable[Rewards]], name: str
) -> Callable[..., Rewards | Awaitable[Rewards]]:
    """`function`, sync or async as before, which raises RunError if it returns NaN; None stays None."""

    def checked(rewards: Rewards) -> Rewards:
        for number, reward in enumerate(rewards):
            if reward is not None and math.isnan(reward):
                raise RunError(
                    f"reward function '{name}' returned NaN for completion {number}; a completion that it does not "
                    "score gets None"
                )
        return rewards

    if is_async_callable(function):

        @functools.wraps(function)
        async def later(*args: object, **columns: object) -> Rewards:
            return checked(await function(*args, **columns))  # type: ignore[misc]  # async, as just asked

        return later

    @functools.wraps(function)
    def now(*args: object, **columns: object) -> Rewards:
        return checked(function(*args, **columns))  # type: ignore[arg-type]  # not async, as just asked

    return now
