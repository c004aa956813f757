"""Settings of training: old names are refused with the new one, in one line that names the place."""

import pytest
from pydantic import ValidationError

from tagpr.errors import RecipeError
from tagpr.recipe import load_recipe
from tagpr.training.settings import GSPOSettings


def test_an_old_name_is_refused_with_the_new_one():
    with pytest.raises(ValidationError, match="'decode_rows' is called 'generation_batch_size' now"):
        GSPOSettings.model_validate({"decode_rows": 4})
    assert GSPOSettings.model_validate({"generation_batch_size": 4}).generation_batch_size == 4


def test_a_recipe_says_where_the_old_name_stands():
    with pytest.raises(RecipeError, match=r"smoke.*guided.*'generation_batch_size'") as error:
        load_recipe("smoke", ["guided.decode_rows=4"])
    assert "\n" not in str(error.value)
