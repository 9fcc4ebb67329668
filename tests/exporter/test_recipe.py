"""Recipes: defaults, files over them, and files that are none."""

from dataclasses import replace

import pytest

from edgecar.errors import SettingsError
from edgecar.exporter import recipe as recipes
from edgecar.exporter.recipe import Recipe, recipe_for
from edgecar.files import shipped
from edgecar.zoo.registry import CARDS


def test_every_file_is_for_a_network_and_understood() -> None:
    names = {path.stem for path in shipped("export", "recipes").glob("*.toml")}
    assert {"default"} <= names <= {card.name for card in CARDS} | {"default"}
    assert all(isinstance(recipe_for(name), Recipe) for name in names)


def test_network_has_its_own_file_over_the_default(tmp_path, monkeypatch) -> None:
    default = recipe_for("dncnn")
    own = shipped("export", "recipes", "default.toml").read_text()
    monkeypatch.setattr(recipes, "shipped", lambda *_: tmp_path)
    (tmp_path / "default.toml").write_text(own)
    (tmp_path / "msfan.toml").write_text("opset = 18")
    assert recipe_for("msfan") == replace(default, opset=18)
    assert recipe_for("dncnn") == default
    # A file given stands in for the network's own one, and changes only what it says.
    given = tmp_path / "given.toml"
    given.write_text("ir_version = 9\nparity_max_error = 1e-3")
    assert recipe_for("msfan", given) == replace(default, ir_version=9, parity_max_error=1e-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"opset = ", "cannot read recipe"),
        (b"opset 19", "cannot read recipe"),
        (b"\xff\xfe\x00", "cannot read recipe"),
        (None, "cannot read recipe"),
        (b"opsett = 19", "unknown key 'opsett'; known are opset, ir_version, parity_max_error"),
        (b"[export]\nopset = 19", "unknown key 'export'"),
        (b'opset = "19"', "opset is '19', need a number"),
        (b"opset = 19.5", "opset is 19.5, need a number"),
        (b"opset = true", "opset is True, need a number"),
        (b'parity_max_error = "small"', "parity_max_error is 'small', need a number"),
    ],
)
def test_file_that_is_no_recipe_is_refused(text, said, tmp_path) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(SettingsError) as refused:
        recipe_for("edgecar-m", path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
