"""Print what makes GStreamer find the element, for a shell to evaluate."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path


def exports() -> dict[str, list[Path]]:
    """Folders by the variable of the environment that they belong in front of."""
    packages: list[Path] = []
    for name in ("edgecar", "numpy"):  # not in one place where edgecar is installed from a checkout
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            packages.append(Path(spec.origin).parents[1])
    return {
        "GST_PLUGIN_PATH": [Path(__file__).parent],
        "PYTHONPATH": list(dict.fromkeys(packages)),
    }


def main() -> None:
    """Print it."""
    version = ".".join(map(str, sys.version_info[:2]))
    lines = [f"# for the Python that GStreamer loads plugins with; it must be {version}"]
    for variable, folders in exports().items():
        ours = shlex.quote(":".join(map(str, folders)))
        lines.append(f'export {variable}={ours}"${{{variable}:+:${variable}}}"')
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
