"""Puts one mistake at a time into a copy of the package, to see whether a test fails.

The mistakes are in `mutants.toml`. Each is put into a scratch copy of a tree. The tests that it
names run first, then the folder of tests that it concerns, then the whole default suite. A test
that fails is run again on the unchanged copy: only if it passes there was the mistake found.

    python tests/mutants.py --results /tmp/mutants.json            # this tree; goes on where it was
    python tests/mutants.py --tree ../old --results /tmp/old.json  # another one, with the same list
    python tests/mutants.py --check                                # every text occurs once
"""

import argparse
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DEFAULT = "not slow and not gpu"
FIRST_SECONDS, WHOLE_SECONDS = 600, 3600
"""After these a stage is ended: tests that hang never pass. Long, since machines are shared."""

LIBRARIES = "av cv2 hypothesis numpy onnx openvino rich torch typer".split()
"""Loaded once for all runs; not the package, which changes."""

ALONE = {"artifact.py": "exporter", "redaction.py": "media"}
"""Files in no package, and the package whose tests see them."""

ENDS = ("killed", "hung")

PLUGIN = "without_shrinking"
PLUGIN_TEXT = """
from hypothesis import Phase, settings

def pytest_sessionstart():
    phases = [Phase.explicit, Phase.generate]  # that an example fails is enough to know
    settings.register_profile("unshrunk", parent=settings.default, phases=phases)
    settings.load_profile("unshrunk")
"""


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        path: File to change, below ``edgecar/``.
        old: Text to replace, which must occur exactly once.
        new: Text that replaces it.
        tests: Files or folders of tests, below ``tests/``, where the mistake should show.
    """

    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name under which the outcome is kept."""
        text = "\0".join((self.path, self.old, self.new))
        return f"{self.path} {hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def part(self) -> str:
        """Package that it is in, or whose tests see it."""
        return ALONE.get(self.path, self.path.partition("/")[0])

    def stages(self) -> list[tuple[list[str], int]]:
        """Arguments of pytest, cheapest first, and how long each may take."""
        named = [f"tests/{test}" for test in self.tests]
        folder = [f"tests/{self.part}"]
        return [(named, FIRST_SECONDS), (folder, WHOLE_SECONDS), ([], WHOLE_SECONDS)]


def mutants() -> list[Mutant]:
    """Every mistake in the list."""
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    table = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))
    return [Mutant(m["path"], m["old"], m["new"], tuple(m["tests"])) for m in table["mutant"]]


def misplaced(tree: Path, listed: list[Mutant]) -> list[str]:
    """Return the faults of the list: texts that do not occur exactly once, absent tests."""
    wrong = []
    for mutant in listed:
        path = tree / "edgecar" / mutant.path
        count = path.read_text(encoding="utf-8").count(mutant.old) if path.is_file() else 0
        if count != 1:
            wrong.append(f"{mutant.path}: got {count} times, need once: {mutant.old.strip()!r}")
        absent = [test for test in mutant.tests if not (tree / "tests" / test).exists()]
        wrong += [f"{mutant.path}: no tests/{test}" for test in absent]
    return wrong


@dataclass
class Copy:
    """A scratch copy of a tree, in which mistakes come and go."""

    tree: Path
    home: Path
    sound: set[str] = field(default_factory=set)
    """Tests that passed on the unchanged copy."""
    red: set[str] = field(default_factory=set)
    """Tests that failed there too, and say nothing."""

    def __post_init__(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.tree, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        self.root = self.home / "tree"
        for name in filter(None, listed.split("\0")):
            source, target = self.tree / name, self.root / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        (self.root / f"{PLUGIN}.py").write_text(PLUGIN_TEXT)

    def outcome(self, mutant: Mutant, stages: int) -> dict[str, object]:
        """Run the tests of so many stages; return whether they find a mistake, and which does."""
        path = self.root / "edgecar" / mutant.path
        sound = path.read_text(encoding="utf-8")
        wrong = sound.replace(mutant.old, mutant.new)
        began = time.monotonic()
        found: dict[str, object] = {"end": "survived"}
        for number, (tests, seconds) in enumerate(mutant.stages()[:stages]):
            while True:
                path.write_text(wrong, encoding="utf-8")
                failed = self._first_failure(tests, seconds)
                path.write_text(sound, encoding="utf-8")
                if failed is None or failed == "" or self._passes_unchanged(failed):
                    break
            if failed is not None:
                found = {"end": "killed" if failed else "hung", "by": failed, "stage": number}
                break
        return {"part": mutant.part, **found, "seconds": round(time.monotonic() - began)}

    def _passes_unchanged(self, test: str) -> bool:
        if test not in self.sound | self.red:
            passes = self._first_failure([test], FIRST_SECONDS) is None
            (self.sound if passes else self.red).add(test)
        return test in self.sound

    def _first_failure(self, tests: list[str], seconds: int) -> str | None:
        """The first test that fails; None if none does, empty if they do not end."""
        with tempfile.TemporaryDirectory(dir=self.home) as own:
            known_red = [f"--deselect={test}" for test in self.red]
            arguments = [
                *("-x", "-q", "--tb=no", "-m", DEFAULT, "-p", PLUGIN),
                *("-o", f"cache_dir={own}/pytest", "--basetemp", f"{own}/tmp"),
                *(*known_red, *tests),
            ]
            # What one mistake left in the user's cache must not be seen with another.
            places = {"EDGECAR_CACHE": f"{own}/cache", "PYTHONPATH": str(self.root)}
            code, said = forked(arguments, self.root, places, Path(own, "said"), seconds)
            if code is None:
                return ""
            if code == 0 or code == 5:  # 5: nothing was selected
                return None
            failures = Path(own, "pytest", "v", "cache", "lastfailed")
            if not failures.is_file():
                raise SystemExit(f"pytest ended with {code} and names no test:\n{said[-2000:]}")
            return next(iter(json.loads(failures.read_text())))


def forked(
    arguments: list[str], root: Path, places: dict[str, str], said: Path, seconds: int
) -> tuple[int | None, str]:
    """Run pytest in a copy of this process, in which large libraries are loaded already.

    Returns:
        Its exit code, None if it did not end in time, and what it printed.
    """
    child = os.fork()
    if not child:
        os.setsid()
        file = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.environ.update(places)
        os.chdir(root)
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = True
        os._exit(int(pytest.main(arguments)))
    until, code = time.monotonic() + seconds, None
    while code is None and time.monotonic() < until:
        time.sleep(0.1)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
    with suppress(ProcessLookupError):  # and whatever the tests started
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code, said.read_text(errors="replace")


def summary(results: dict[str, dict[str, object]]) -> str:
    """Shares that were found, by part."""
    lines = []
    for part in [*sorted({str(r["part"]) for r in results.values()}), "all"]:
        ends = Counter(str(r["end"]) for r in results.values() if part in (r["part"], "all"))
        total, found = ends.total(), sum(ends[end] for end in ENDS)
        lines.append(f"{part}: {found} of {total} found ({found / total:.1%}; {dict(ends)})")
    survivors = [key for key, r in results.items() if r["end"] == "survived"]
    return "\n".join([*lines, *(f"survived: {key}" for key in survivors)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="checkout to test")
    parser.add_argument("--results", type=Path, help="outcomes; those that are there are kept")
    parser.add_argument("--only", default="", help="mistakes in paths that contain this")
    parser.add_argument("--stages", type=int, default=3, help="2: without the whole suite")
    parser.add_argument("--check", action="store_true", help="only check that the list fits")
    asked = parser.parse_args()
    tree, listed = asked.tree.resolve(), mutants()
    if wrong := misplaced(tree, listed):
        print(*wrong, sep="\n")
        print(f"{len(wrong)} of {len(listed)} do not fit {tree}; write the same mistake elsewhere")
        return 1
    if asked.check:
        print(f"all {len(listed)} fit {tree}")
        return 0
    for library in LIBRARIES:
        importlib.import_module(library)
    results: dict[str, dict[str, object]] = {}
    if asked.results and asked.results.is_file():
        results = json.loads(asked.results.read_text())
    with tempfile.TemporaryDirectory(prefix="edgecar-mutants-") as home:
        copy = Copy(tree, Path(home))
        for number, mutant in enumerate(listed, 1):
            if mutant.key in results or asked.only not in mutant.path:
                continue
            results[mutant.key] = copy.outcome(mutant, asked.stages)
            print(f"{number}/{len(listed)} {mutant.key}: {results[mutant.key]}", flush=True)
            if asked.results:
                asked.results.write_text(json.dumps(results, indent=1) + "\n")
    known = {mutant.key for mutant in listed}
    results = {key: result for key, result in results.items() if key in known}
    print(summary(results))
    return 0 if all(result["end"] in ENDS for result in results.values()) else 3


if __name__ == "__main__":
    raise SystemExit(main())
