"""Recipes: every name of the settings has one, and each gives settings that the trainer takes."""

from typing import get_args

import pytest

from absa.policies import RecipeName, TrainingRecipe
from absa.training.recipes import RECIPES
from absa.training.training_settings import TrainingSettings


def test_every_name_of_settings_has_a_recipe() -> None:
    assert set(get_args(RecipeName)) == set(RECIPES)
    assert TrainingRecipe().recipe == "fast"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_gives_settings_of_trainer(name: str) -> None:
    recipe = RECIPES[name]
    cold = TrainingSettings.from_json(recipe.settings(warm=False))
    warm = TrainingSettings.from_json(recipe.settings(warm=True))
    assert (cold.max_epochs, warm.max_epochs) == (recipe.max_epochs, recipe.warm_epochs)
    assert cold.r_drop == warm.r_drop
    assert cold.contrast_share == recipe.contrast_share
    assert bool(recipe.teacher_weight) == (name == "distilled")


def test_teachers_take_time_in_their_recipe_alone() -> None:
    policy = TrainingRecipe(recipe="distilled", teachers=("a", "b", "a"), teacher_budget_s=100.0)
    assert policy.teaching_s == 300.0
    assert TrainingRecipe(recipe="distilled", base_model="a").teacher_names == ("a", "a")
    assert TrainingRecipe(teachers=("a",)).teaching_s == 0.0
