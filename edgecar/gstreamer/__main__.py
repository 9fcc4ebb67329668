"""Print what makes GStreamer find the element, for a shell to evaluate."""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path


def exports() -> dict[str, list[Path]]:
    """Return folders by the variable of the environment that they belong in front of."""
    # Not in one place where edgecar is installed from a checkout.
    specs = [find_spec(name) for name in ("edgecar", "numpy")]
    packages = [Path(spec.origin).parents[1] for spec in specs if spec and spec.origin]
    return {
        "GST_PLUGIN_PATH": [Path(__file__).parent],
        "PYTHONPATH": list(dict.fromkeys(packages)),
    }


if __name__ == "__main__":
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"# for the Python that GStreamer loads plugins with; it must be {version}")  # noqa: T201
    for variable, folders in exports().items():
        ours = shlex.quote(":".join(map(str, folders)))
        print(f'export {variable}={ours}"${{{variable}:+:${variable}}}"')  # noqa: T201
