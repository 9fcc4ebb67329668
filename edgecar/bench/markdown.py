"""How tables, numbers and their provenance are written on the page."""

from collections.abc import Iterable, Sequence

from edgecar.bench.machine import machine_line
from edgecar.bench.results import Results


def provenance(result: Results) -> str:
    """One line: machine, versions, commit, date, command."""
    libraries = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    features = ", ".join(result.machine["cpu_features"])
    extra = f" ({features})" if features else ""
    commit = result.commit or "unknown"
    short = commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")
    return (
        f"{machine_line(result.machine)}{extra}; Python {result.machine['python']}, {libraries}; "
        f"commit {short}; {result.date[:10]}; `{result.command}`."
    )


def number(value: float | None, digits: int) -> str:
    """A value with so many decimals, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: header and rows of cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
