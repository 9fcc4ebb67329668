"""Files that appear whole or not at all."""

import hashlib
import os
import stat

import pytest

from edgecar import files
from edgecar.files import sha256_of, shipped, table_from_toml, written_whole


def test_file_appears_when_the_block_succeeds(tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    with written_whole(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_file_is_in_the_same_folder_with_the_same_suffix(tmp_path) -> None:
    """Renaming is atomic only inside one file system; libraries choose formats by suffix."""
    with written_whole(tmp_path / "clip.part1.mp4") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".")  # hidden from patterns such as *.mp4
        assert temporary.name != "clip.part1.mp4"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("earlier", [None, "an older one"])
def test_nothing_changes_when_the_block_fails(failure, earlier, tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    if earlier:
        path.write_text(earlier)
    with pytest.raises(failure), written_whole(path) as temporary:
        temporary.write_text("half of")
        raise failure
    assert [p.name for p in tmp_path.iterdir()] == (["weights.onnx"] if earlier else [])
    if earlier:
        assert path.read_text() == earlier


def test_existing_file_is_replaced(tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    path.write_text("an older one, which is longer")
    with written_whole(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_folders_on_the_way_are_made(tmp_path) -> None:
    path = tmp_path / "one" / "two" / "weights.onnx"
    with written_whole(path) as temporary:
        temporary.write_text("here")
    assert path.read_text() == "here"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(mask, mode, tmp_path) -> None:
    path, plain = tmp_path / "weights.onnx", tmp_path / "plain"
    before = os.umask(mask)
    try:
        with written_whole(path) as temporary:
            temporary.write_text("x")
        plain.write_text("x")
        assert os.umask(mask) == mask  # left as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
def test_the_mask_of_the_process_is_never_set(tmp_path, monkeypatch) -> None:
    """Not even for a moment: other threads make files meanwhile."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"the mask was set to {mask:o}")

    monkeypatch.setattr(os, "umask", refuse)
    with written_whole(tmp_path / "a", 0o600) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600  # private before it has its name
        temporary.write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_two_writers_do_not_mix(tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    with written_whole(path) as first, written_whole(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]


def test_file_the_block_removed_is_an_error_and_nothing_stays(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "weights.onnx") as temporary:
        temporary.unlink()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 5000])
def test_sha256_is_that_of_the_bytes(content, tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_toml_is_read_as_utf8(tmp_path) -> None:
    path = tmp_path / "suite.toml"
    path.write_bytes('name = "Köln"\n[sizes]\nwidth = 16\n'.encode())
    assert table_from_toml(path) == {"name": "Köln", "sizes": {"width": 16}}


@pytest.mark.parametrize("content", [b"name = ", b'name = "\xff"'])
def test_what_is_not_toml_is_a_value_error(content, tmp_path) -> None:
    """The class that those who read settings turn into words, from either package."""
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        table_from_toml(path)


def test_shipped_folders_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch) -> None:
    package = tmp_path / "edgecar"
    package.mkdir()
    monkeypatch.setattr(files, "PACKAGE", package)
    assert shipped("export", "recipes") == tmp_path / "export" / "recipes"
    inside = package / "data" / "export" / "recipes"
    inside.mkdir(parents=True)
    assert shipped("export", "recipes") == inside


def test_shipped_recipes_are_there() -> None:
    assert (shipped("export", "recipes") / "default.toml").is_file()
