"""Shipped folders, caches, fingerprints and files that appear whole or not at all."""

import errno
import hashlib
import os
import secrets
import shlex
import shutil
import stat
import sys
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgecar.errors import OutputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the same before it was in the standard library

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "zoo" / "weights"
BLOCK_BYTES = 1 << 20


def shipped(*parts: str) -> Path:
    """A folder of data that ships with edgecar: in the wheel's `edgecar/data`, or in a checkout.

    Example:
        >>> shipped("export", "recipes").name
        'recipes'
    """
    inside = PACKAGE.joinpath("data", *parts)
    return inside if inside.exists() else PACKAGE.parent.joinpath(*parts)


def is_bare_name(name_or_path: str | Path) -> bool:
    """Return whether a name may stand for something that ships: it names no folder.

    Example:
        >>> is_bare_name("edgecar-s"), is_bare_name("./edgecar-s"), is_bare_name("/x/edgecar-s.pt")
        (True, False, False)
    """
    text = str(name_or_path)
    return os.path.basename(text) == text  # noqa: PTH119  # a Path forgets the dot and slash


def quoted(path: str | Path) -> str:
    """Return a path as a word of a command, for a shell to read.

    Example:
        >>> quoted("two words.mp4"), quoted("-x.mp4"), quoted("clip.mp4")
        ("'two words.mp4'", './-x.mp4', 'clip.mp4')
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def cache_folder(*parts: str) -> Path:
    """Return a folder for files that can be made again; it need not exist yet.

    It lies under ``EDGECAR_CACHE`` if that is set, else in the user's cache. Where the user has no
    home folder, or may not write there, it lies in the folder for temporary files.

    Example:
        >>> cache_folder("coded").name
        'coded'
    """
    named = os.environ.get("EDGECAR_CACHE")
    return (Path(named) if named else _users_cache()).joinpath(*parts)


def _users_cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(named) if named else Path.home()
    except RuntimeError:  # no HOME, and the user is not in the system's list
        return _temporary_cache()
    folder = home / "edgecar" if named else home / ".cache" / "edgecar"
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    # A home folder that does not exist is not made: it is a name that nobody meant to be one.
    usable = bool(named) or home.is_dir()
    return folder if usable and os.access(nearest, os.W_OK | os.X_OK) else _temporary_cache()


def _temporary_cache() -> Path:
    """A folder of this user's in the system's folder for temporary files."""
    try:
        place = Path(tempfile.gettempdir()) / f"edgecar-{os.getuid()}"
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        status = place.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
            return place
        return Path(tempfile.mkdtemp(prefix="edgecar-"))  # the name is another user's
    except OSError:  # nothing may be written anywhere, so nothing will be kept
        return Path(os.devnull) / "edgecar"


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def table_from_toml(path: Path) -> dict[str, Any]:
    """Return the table of a TOML file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or not UTF-8.
    """
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return table


@contextmanager
def atomic_write(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block succeeds.

    On any failure, an interrupt included, the temporary file is removed and ``path`` is untouched.
    The suffix is kept, so that libraries which choose a format by it work. What is no regular file,
    such as ``/dev/stdout``, is written to and stays what it is.

    Args:
        path: Missing folders are made.
        mode: Who may read and write it, less what the process's mask takes away.

    Raises:
        OutputError: The file cannot be written: the disk is full or read-only, the name is too
            long or that of a folder.
    """
    with writing(path):
        special = _is_special(path)
        if not special:
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _new_file(Path(tempfile.gettempdir()) / path.name if special else path, mode)
    _unfinished.add(temporary)
    try:
        with writing(path, temporary):
            yield temporary
            if special:
                with temporary.open("rb") as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
            else:
                temporary.replace(path)
    finally:
        with suppress(OSError):  # the folder is gone, or read-only by now
            temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


_unfinished: set[Path] = set()
"""Temporary files of this process."""


def remove_unfinished() -> None:
    """Remove the temporary files of all writers, for a process that ends at once."""
    for temporary in tuple(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Return True for a device, a pipe or an open file of a process, which no file replaces.

    Raises:
        OSError: It is a folder, or no file can have this name.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    link = str(path.readlink()) if path.is_symlink() else ""
    # /dev/stdout and the like are links to /proc, whatever is behind them.
    opened = link.startswith("/proc/") or path.parent.resolve().is_relative_to("/proc")
    return opened or not stat.S_ISREG(mode)


NAME_KEPT = 20
"""Characters of a name that its temporary file has too; with four bytes each there is room."""

SUFFIX_KEPT = 16
"""A longer suffix names no format."""


def _new_file(path: Path, mode: int) -> Path:
    """Make an empty file of a new name beside ``path``.

    The system takes the mask off the mode. To read the mask a process must set it, and files that
    other threads make in that moment would get rights that nobody meant. Nothing is changed after
    that, because many mounted file systems refuse it.
    """
    stem = path.stem[:NAME_KEPT]
    suffix = path.suffix if len(path.suffix) <= SUFFIX_KEPT else ""
    while True:
        temporary = path.with_name(f".{stem}.{secrets.token_hex(4)}{suffix}")
        with suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            return temporary


_FULL = "free space there or choose another folder"
_CLOSED = "choose a folder you may write to"
_NO_FOLDER = "a part of it is a file where a folder must be: choose another folder"
REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "choose another file system",
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: _CLOSED,
    errno.EISDIR: "give the name of a file",
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "give a path without a circle of links",
}
"""Advice for a file that cannot be written, by the system's number of the error."""


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Explain in one line why the system refuses to write ``path``.

    Args:
        path: The file or folder that messages name.
        temporary: The file that is really written; errors about other files pass as they are.

    Raises:
        OutputError: In place of the system's own error.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        about = error.filename is None or temporary is None or str(temporary) in str(error.filename)
        if error.errno not in REMEDIES or not about:
            raise
        raise output_error(path, error) from error


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the one line that says why a file was not written, and what to do."""
    code = error.errno or 0
    refused = OutputError(
        f"{path} cannot be written ({error.strerror or os.strerror(code)}), and nothing of it was "
        f"kept; {REMEDIES.get(code, _CLOSED)}"
    )
    refused.errno, refused.strerror = error.errno, error.strerror
    return refused


def check_outputs(outputs: Iterable[Path], inputs: Iterable[str | Path] = ()) -> None:
    """Refuse outputs that would replace an input or each other, or that cannot be written.

    To be called before anything is opened. Links are followed, and two names of one file are one
    file. What is no regular file, such as ``/dev/stdout``, may be named several times.

    Args:
        outputs: Files that will be written.
        inputs: Files that will be read; what does not exist, such as a URL, is passed over.

    Raises:
        OutputError: One output takes the place of an input or of another one, is a folder, or lies
            where nothing can be written.
    """
    read = {identity: Path(path) for path in inputs if (identity := _identity(Path(path)))}
    written: dict[str, Path] = {}
    for path in outputs:
        with writing(path):
            special = _is_special(path)
            if not special:
                _check_place(path)
        if special:
            continue
        if (identity := _identity(path)) in read:
            raise OutputError(
                f"{path} is an input and would be lost{_also_called(path, read[identity])}; give "
                "another output"
            )
        name = _folded(path)
        if name in written and _is_one_name(written[name], path):
            raise OutputError(
                f"two outputs would be one file, {path}; give another name to one of them"
            )
        written[name] = path


def _also_called(path: Path, other: Path) -> str:
    return "" if path == other else f" (it is {other})"


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, whatever it is called; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _folded(path: Path) -> str:
    """An absolute path as the most forgiving file systems compare it."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def _is_one_name(first: Path, second: Path) -> bool:
    """Return True if the file system takes two names, equal but for case, for the same file."""
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    if _identity(first) or _identity(second):
        return _identity(first) == _identity(second)
    nearest = next(place for place in first.absolute().parents if place.exists())
    try:
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".edgecar-") as folder:
            (Path(folder) / "case").touch()
            return (Path(folder) / "CASE").exists()
    except OSError:  # nothing can be written there, which is another failure
        return False


def _check_place(path: Path) -> None:
    """Raise OSError where a new file of this name could not be made."""
    nearest = path.absolute().parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not os.access(nearest, os.W_OK | os.X_OK):
        closed = os.statvfs(nearest).f_flag & os.ST_RDONLY
        code = errno.EROFS if closed else errno.EACCES
        raise PermissionError(code, os.strerror(code), str(path))
