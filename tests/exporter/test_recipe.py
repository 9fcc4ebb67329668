"""Recipes: defaults, files over them, and files that are none."""

from dataclasses import replace

import pytest

from edgecar.errors import SettingsError
from edgecar.exporter import recipe as recipes
from edgecar.exporter.recipe import Recipe, recipe_for
from edgecar.files import shipped
from edgecar.zoo.registry import CARDS


@pytest.fixture
def write(tmp_path):
    def to(text: str | bytes):
        path = tmp_path / "mine.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return to


def test_every_file_is_for_a_network_and_understood() -> None:
    known = {card.name for card in CARDS} | {"default"}
    names = [path.stem for path in shipped("export", "recipes").glob("*.toml")]
    assert "default" in names
    assert set(names) <= known
    assert all(isinstance(recipe_for(name), Recipe) for name in names)


def test_file_given_changes_only_what_it_says(write) -> None:
    default = recipe_for("edgecar-m")
    recipe = recipe_for("edgecar-m", write("parity_max_error = 1e-3"))
    assert recipe == replace(default, parity_max_error=1e-3)


def test_network_has_its_own_file_over_the_default(tmp_path, monkeypatch) -> None:
    default = recipe_for("dncnn")
    own = shipped("export", "recipes", "default.toml").read_text()
    monkeypatch.setattr(recipes, "shipped", lambda *_: tmp_path)
    (tmp_path / "default.toml").write_text(own)
    (tmp_path / "msfan.toml").write_text("opset = 18")
    assert recipe_for("msfan") == replace(default, opset=18)
    assert recipe_for("dncnn") == default
    # A file given stands in for the network's own one.
    given = tmp_path / "given.toml"
    given.write_text("ir_version = 9")
    assert recipe_for("msfan", given) == replace(default, ir_version=9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("opset = ", "cannot read recipe"),
        ("opset 19", "cannot read recipe"),
        (b"\xff\xfe\x00", "cannot read recipe"),
        ("opsett = 19", "unknown key 'opsett'; known are opset, ir_version, parity_max_error"),
        ("[export]\nopset = 19", "unknown key 'export'"),
        ('opset = "19"', "opset is '19', need a number"),
        ("opset = 19.5", "opset is 19.5, need a number"),
        ("opset = true", "opset is True, need a number"),
        ('parity_max_error = "small"', "parity_max_error is 'small', need a number"),
    ],
)
def test_file_that_is_no_recipe_is_refused(text, said, write) -> None:
    path = write(text)
    with pytest.raises(SettingsError) as refused:
        recipe_for("edgecar-m", path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read recipe .*absent\.toml"):
        recipe_for("edgecar-m", tmp_path / "absent.toml")
