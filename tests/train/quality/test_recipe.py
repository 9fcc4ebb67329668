"""Recipes of the scorer: known keys, typed values, the paper's settings."""

import pytest

from edgecar.errors import SettingsError
from edgecar.files import shipped
from edgecar.train.quality.recipe import (
    QualityRecipe,
    find_quality_recipe,
    quality_recipe_from_table,
    quality_recipe_from_toml,
    table_of,
)
from edgecar.zoo.multiscale_iqa import IqaConfig

RECIPES = sorted(shipped("export", "scoring").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_read_and_found(path):
    recipe = quality_recipe_from_toml(path)
    assert find_quality_recipe(path.stem) == path
    assert quality_recipe_from_table(table_of(recipe)) == recipe


def test_the_papers_recipe_is_the_papers():
    recipe = quality_recipe_from_toml(find_quality_recipe("multiscale-iqa-paper"))
    assert recipe.network == IqaConfig()
    assert (recipe.optimiser, recipe.rate, recipe.batch) == ("sgd", 1e-3, 128)
    assert (recipe.weight_decay, recipe.epochs) == (1e-7, 100)
    assert recipe == QualityRecipe(final_share=1.0)


def test_values_become_those_of_the_recipe():
    table = {"epochs": 2, "network": {"bins": [1, 4]}, "distortions": {"blur_px": [1, 2.5]}}
    recipe = quality_recipe_from_table(table)
    assert type(recipe.epochs) is float
    assert recipe.network.bins == (1, 4)
    assert recipe.distortions.blur_px == (1, 2.5)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"epoch": 3}, "unknown key 'epoch'"),
        ({"network": {"width": 3}}, r"unknown key 'network\.width'"),
        ({"distortions": {"jpeg": 3}}, r"unknown key 'distortions\.jpeg'"),
        ({"network": 3}, "need a table"),
        ({"batch": 2.5}, "batch is 2.5; need something like 128"),
        ({"lower_is_better": 1}, "need something like False"),
        ({"network": {"bins": [1, 2.5]}}, r"bins is \[1, 2\.5\]"),
        ({"network": {"streams": "none"}}, "use both"),
        ({"optimiser": "muon"}, "use sgd or adam"),
        ({"share": 1.0}, "between 0 and 1"),
        ({"batch": 1}, "at least 2"),
        ({"epochs": 0}, "above 0"),
        ({"photographs": -1}, "below 0"),
        ({"distortions": {"restored": 6}}, "restored is 6 of 5"),
        ({"distortions": {"coded": 0, "restored": 0, "blurred": 0, "noisy": 0}}, "nothing is made"),
        ({"distortions": {"quality": [90, 10]}}, "in order"),
        ({"distortions": {"networks": ["resnet"]}}, "need some that ship"),
    ],
    ids=str,
)
def test_unfit_tables_are_refused(table, words):
    with pytest.raises(SettingsError, match=words):
        quality_recipe_from_table(table)


def test_files_are_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("epoch = 3\n")
    with pytest.raises(SettingsError, match=r"bad\.toml: unknown key"):
        quality_recipe_from_toml(path)
    path.write_text("epoch = ")
    with pytest.raises(SettingsError, match="cannot read recipe"):
        quality_recipe_from_toml(path)
    with pytest.raises(SettingsError, match=r"no recipe is called 'x'; .*multiscale-iqa-paper"):
        find_quality_recipe("x")
