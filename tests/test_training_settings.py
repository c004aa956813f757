"""Settings of training: old names are refused with the new one, in one line that names the place."""

import pytest
from pydantic import ValidationError

from tagpr.errors import RecipeError
from tagpr.recipe import load_recipe
from tagpr.training.heldout import METRIC
from tagpr.training.settings import GSPOSettings, SFTSettings
from tagpr.training.watch import Watch


def test_an_old_name_is_refused_with_the_new_one():
    with pytest.raises(ValidationError, match="'decode_rows' is called 'generation_batch_size' now"):
        GSPOSettings.model_validate({"decode_rows": 4})
    assert GSPOSettings.model_validate({"generation_batch_size": 4}).generation_batch_size == 4


def test_a_recipe_says_where_the_old_name_stands():
    with pytest.raises(RecipeError, match=r"smoke.*guided.*'generation_batch_size'") as error:
        load_recipe("smoke", ["guided.decode_rows=4"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "best"),
    [
        (GSPOSettings(), False),
        (GSPOSettings(heldout_every=2), True),
        (GSPOSettings(heldout_every=2, keep="last"), False),
        (GSPOSettings(heldout_every=2, keep="best"), True),
        (SFTSettings(), False),
        (SFTSettings(heldout_users=3), True),
        (SFTSettings(heldout_users=3, keep="last"), False),
    ],
)
def test_the_best_weights_are_the_default_exactly_where_something_held_out_is_evaluated(settings, best):
    assert settings.keeps_best is best
    assert type(settings).model_validate(settings.model_dump()) == settings


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        ([(0.5, 1.0), (0.5, 1.0)], 2),  # equals: the later
        ([(0.5, 1.2), (0.5, 1.1)], 1),  # of equal R_v the higher reward
        ([(0.2, 9.0), (0.1, 9.0)], 0),  # worse than the start
        ([(0.9, 0.0), (0.4, 9.0)], 1),
    ],
)
def test_which_evaluation_is_the_best(tmp_path, rows, kept):
    watch = Watch(GSPOSettings(heldout_every=1), tmp_path)
    watch.start = {METRIC: 0.3, "heldout/reward": 0.3}
    watch.log = [{"step": float(i), METRIC: v, "heldout/reward": r} for i, (v, r) in enumerate(rows, 1)]
    assert watch.best() == kept
