"""Files that appear whole or not at all."""

import errno
import hashlib
import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from edgecar import files
from edgecar.errors import OutputError
from edgecar.files import (
    atomic_write,
    cache_folder,
    check_outputs,
    sha256_of,
    shipped,
    table_from_toml,
)


@pytest.mark.parametrize("earlier", [None, "an older one, which is longer"])
def test_file_appears_when_the_block_succeeds(earlier, tmp_path) -> None:
    path = tmp_path / "one" / "two" / "clip.part1.mp4"  # folders on the way are made
    if earlier:
        path.parent.mkdir(parents=True)
        path.write_text(earlier)
    with atomic_write(path) as temporary:
        # Renaming is atomic only inside one file system; libraries choose formats by suffix.
        assert (temporary.parent, temporary.suffix) == (path.parent, ".mp4")
        assert temporary.name.startswith(".")  # hidden from patterns such as *.mp4
        temporary.write_text("all of it")
        assert path.exists() == bool(earlier)
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("earlier", [None, "an older one"])
def test_nothing_changes_when_the_block_fails(failure, earlier, tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    if earlier:
        path.write_text(earlier)
    with pytest.raises(failure), atomic_write(path) as temporary:
        temporary.write_text("half of")
        raise failure
    assert [p.name for p in tmp_path.iterdir()] == (["weights.onnx"] if earlier else [])
    if earlier:
        assert path.read_text() == earlier


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX systems")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(mask, mode, tmp_path) -> None:
    path, plain = tmp_path / "weights.onnx", tmp_path / "plain"
    before = os.umask(mask)
    try:
        with atomic_write(path) as temporary:
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
    with atomic_write(tmp_path / "a", 0o600) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600  # private before it has its name
        temporary.write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_two_writers_do_not_mix(tmp_path) -> None:
    path = tmp_path / "weights.onnx"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer one ends last
    assert list(tmp_path.iterdir()) == [path]


def test_file_the_block_removed_is_an_error_and_nothing_stays(tmp_path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "weights.onnx") as temporary:
        temporary.unlink()
    assert not list(tmp_path.iterdir())


REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
)


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", ["open", "write", "replace"])
def test_refusal_of_the_system_is_one_line_and_keeps_what_was_there(
    code, step, tmp_path, monkeypatch
) -> None:
    path = tmp_path / "result.json"
    path.write_text("an older one")

    def refused(*arguments: object, **_: object) -> None:
        named = next((a for a in arguments if isinstance(a, str | Path)), None)
        raise OSError(code, os.strerror(code), None if step == "write" else str(named))

    with pytest.raises(OutputError) as caught:
        if step == "open":
            monkeypatch.setattr(os, "open", refused)
        with atomic_write(path) as temporary:
            if step == "replace":
                monkeypatch.setattr(Path, "replace", refused)
            if step == "write":
                refused()
            temporary.write_text("new")
    monkeypatch.undo()
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert os.strerror(code) in message
    assert "; " in message  # what to do
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == code
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("place", ["folder", "file/below", "n" * 300])
def test_names_that_cannot_be_written_are_refused_before_the_work(place, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for check in (lambda path: atomic_write(path).__enter__(), lambda path: check_outputs([path])):
        with pytest.raises(OutputError, match="cannot be written"):
            check(tmp_path / place)


@pytest.mark.parametrize(
    "name",
    [
        "n" * 249 + ".json",
        "ä" * 120 + ".mp4",
        "x." + "s" * 250,
        b"not utf-8 \xff\xfe.json",
        "two\nlines.json",
        "-o",
        "[bold]x[bold].png",
    ],
)
def test_any_name_that_the_system_takes_can_be_written(name, tmp_path) -> None:
    path = tmp_path / os.fsdecode(name)
    with atomic_write(path) as temporary:
        temporary.write_text("here")
    assert [os.fsencode(p) for p in tmp_path.iterdir()] == [os.fsencode(path)]
    assert path.read_text() == "here"


def test_file_systems_that_refuse_to_change_rights_are_written_to(tmp_path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for name in ("chmod", "fchmod", "lchmod", "chown", "utime"):
        monkeypatch.setattr(os, name, refused, raising=False)
    with atomic_write(tmp_path / "result.json", mode=0o600) as temporary:
        temporary.write_text("here")
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o600


def test_device_or_pipe_is_written_to_and_stays_what_it_is(tmp_path) -> None:
    """Root could put a file in place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as temporary:
        temporary.write_bytes(b"all of it")
    assert os.read(reading, 100) == b"all of it"
    os.close(reading)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("there", [True, False])
def test_outputs_are_no_inputs_and_differ(there, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, other = Path("source.mp4"), Path("folder/other.mp4")
    other.parent.mkdir()
    for path in (source, other):
        path.write_text("kept")
    Path("link.mp4").symlink_to(source)
    os.link(source, "hard.mp4")
    Path("linked").symlink_to("folder")
    inputs = [source, "folder/other.mp4", "rtsp://10.0.0.5/x", "0"]
    names = ["source.mp4", "./source.mp4", tmp_path / "source.mp4", "folder/../source.mp4"]
    names += ["link.mp4", "hard.mp4", "linked/other.mp4"]
    for name in names:
        with pytest.raises(OutputError, match="is an input and would be lost"):
            check_outputs([Path("new.mp4"), Path(name)], inputs)
    if there:
        Path("clean.mp4").touch()
    for first, second in (("clean.mp4", "./clean.mp4"), ("linked/x.mp4", "folder/x.mp4")):
        with pytest.raises(OutputError, match="two outputs would be one file"):
            check_outputs([Path(first), Path(second)], inputs)
    check_outputs([Path("clean.mp4"), Path("Clean.mp4"), Path("not/there/x.mp4")], inputs)
    check_outputs([Path("/dev/null"), Path("/dev/null")], ["/dev/null"])
    assert not Path("not").exists()
    assert source.read_text() == "kept"


def test_names_that_differ_in_case_are_one_where_the_file_system_says_so(
    tmp_path, monkeypatch
) -> None:
    real = Path.exists
    check_outputs([tmp_path / "Gate.mp4", tmp_path / "gate.mp4"])
    # Such a file system finds a file by any case of its name.
    monkeypatch.setattr(
        Path, "exists", lambda path: real(path) or real(path.with_name(path.name.lower()))
    )
    with pytest.raises(OutputError, match="two outputs would be one file"):
        check_outputs([tmp_path / "Gate.mp4", tmp_path / "gate.mp4"])


@pytest.mark.parametrize("home", ["unset", "missing", "read-only", "a file"])
def test_caches_have_a_place_without_a_home(home, tmp_path, monkeypatch) -> None:
    for name in ("HOME", "EDGECAR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    if home == "unset":

        def unknown(number: int) -> None:
            raise KeyError(number)

        monkeypatch.setattr(pwd, "getpwuid", unknown)
    else:
        monkeypatch.setenv("HOME", str(folder))
    if home == "a file":
        folder.touch()
    if home == "read-only":
        folder.mkdir()
        may = os.access
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode: may(path, mode) and not Path(path).is_relative_to(folder),
        )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = cache_folder("tuning")
    assert place == tmp_path / f"edgecar-{os.getuid()}" / "tuning"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    with atomic_write(place / "x.json") as temporary:
        temporary.write_text("kept")
    assert cache_folder("tuning") == place


def test_cache_of_another_user_is_not_taken(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("EDGECAR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"edgecar-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert not cache_folder().is_relative_to(tmp_path / f"edgecar-{os.getuid()}")


def test_sha256_is_that_of_the_bytes(tmp_path) -> None:
    path = tmp_path / "file"
    for content in (b"", bytes(range(256)) * 5000):
        path.write_bytes(content)
        assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_toml_is_utf8_and_what_is_none_is_a_value_error(tmp_path) -> None:
    """The class that callers turn into words, from either package that reads TOML."""
    path = tmp_path / "suite.toml"
    path.write_bytes('name = "Köln"\n[sizes]\nwidth = 16\n'.encode())
    assert table_from_toml(path) == {"name": "Köln", "sizes": {"width": 16}}
    for content in (b"name = ", b'name = "\xff"'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            table_from_toml(path)


def test_shipped_folders_are_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch) -> None:
    assert (shipped("export", "recipes") / "default.toml").is_file()
    package = tmp_path / "edgecar"
    package.mkdir()
    monkeypatch.setattr(files, "PACKAGE", package)
    assert shipped("export", "recipes") == tmp_path / "export" / "recipes"
    inside = package / "data" / "export" / "recipes"
    inside.mkdir(parents=True)
    assert shipped("export", "recipes") == inside
