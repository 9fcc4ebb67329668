"""``python -m benchmarks.run.pages``: write `benchmarks/README.md`, its pages and charts.

`benchmarks/pages.toml` has the words and columns, `results` the figures. With ``--check``
nothing is written; the exit code says if a file is not what the results give.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.run.page_tables import TABLES, Named, described
from benchmarks.run.summary import FIGURES
from edgecar.bench.chart import chart
from edgecar.bench.machine import machine_line
from edgecar.bench.results import Results, read_results
from edgecar.errors import DataError, EdgecarError
from edgecar.evaluate.table import Cells, markdown
from edgecar.evaluate.tables import INTROS
from edgecar.files import atomic_write, table_from_toml

FOLDER = Path(__file__).parents[1]
PAGES = "pages"
MARKER = "<!-- Generated from benchmarks/results/*.json by `make tables`. Do not edit. -->"
STALE_EXIT = 3  # the check ran and the answer is no

Page = Mapping[str, Any]


def all_pages() -> list[Page]:
    """Pages of `benchmarks/pages.toml`, in order."""
    found: list[Page] = table_from_toml(FOLDER / "pages.toml")["page"]
    return found


def load_all(folder: Path) -> list[Named]:
    """Stem and content of every result file in ``folder``, sorted by name."""
    return [(path.stem, read_results(path)) for path in sorted(folder.glob("*.json"))]


def texts(results: Sequence[Named]) -> dict[str, str]:
    """Text of every generated page by its path in `benchmarks`."""
    pages = all_pages()
    found = {"README.md": readme(results, pages)}
    for page in pages:
        found[f"{PAGES}/{page['name']}.md"] = page_text(page, results)
    for path, text in found.items():
        headings = [line for line in text.splitlines() if line.startswith("#")]
        twice = [line for line in headings if headings.count(line) > 1]
        if twice:
            raise DataError(f"{path} has the heading {twice[0]!r} twice; rename one result file")
    return found


def readme(results: Sequence[Named], pages: Iterable[Page]) -> str:
    """One screen: the figures that matter, then the list of pages."""
    titles = {page["name"]: page["title"] for page in pages}
    figures = [
        [f"**{name}**", text(results) or "Not measured.", f"[{titles[page]}]({PAGES}/{page}.md)"]
        for name, page, text in FIGURES
    ]
    listed = [f"- [{page['title']}]({PAGES}/{page['name']}.md): {page['about']}." for page in pages]
    intro = (
        "Every figure comes from a file in [results](results), which names the machine, versions,\n"
        "commit and command that made it. `make tables` makes these pages of the files."
    )
    report = (
        "A study as one HTML file with curves and frames:\n"
        "`edgecar eval h264 --data FOLDER --crf 29 35 41 47 --report report.html`."
    )
    table = markdown(("", "Result", "More"), figures)
    parts = [MARKER, "# Benchmarks", intro, table, "## Pages", "\n".join(listed), report]
    return "\n\n".join(parts) + "\n"


def page_text(page: Page, results: Sequence[Named]) -> str:
    """Text of one page: words, tables, and the folded origin of the figures."""
    parts = [MARKER, f"# {page['title']}"]
    if "intro" in page:
        parts.append(page["intro"].strip())
    for section in page["section"]:
        studies = [(name, result) for name, result in results if result.kind == section["kind"]]
        level = "###" if "title" in section else "##"
        if "title" in section:
            parts.append(f"## {section['title']}")
        intro = INTROS[section["intro_of"]] if "intro_of" in section else ""
        parts += [text for text in (section.get("intro", "").strip(), intro) if text]
        made = _section(section, studies)
        for heading, cells in made:
            parts += [*([f"{level} {heading}"] if heading else []), markdown(*cells)]
            if section.get("tables") == "speed":
                parts.append(f"![Frames per second, {heading}]({heading}.png)")
        if not made:
            parts.append(f"Nothing measured yet: `{section['how']}`.")
        parts += [provenance(name, result) for name, result in studies]
    return "\n\n".join(parts) + "\n"


def _section(section: Page, studies: Sequence[Named]) -> list[tuple[str, Cells]]:
    columns = [(title, template) for title, template in section.get("columns", [])]
    if "tables" not in section:
        return list(described(studies, columns, section.get("group")))
    if not studies and section["kind"] not in ("weights", "bench"):
        return []
    return list(TABLES[section["tables"]](studies, columns))


def provenance(name: str, result: Results) -> str:
    """Machine, versions, commit, date and command, folded."""
    libraries = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    features = ", ".join(result.machine["cpu_features"])
    extra = f" ({features})" if features else ""
    commit = result.commit or "unknown"
    short = commit[:12] + ("-dirty" if commit.endswith("-dirty") else "")
    return (
        f"<details><summary>{name}: machine, versions and command</summary>\n\n"
        f"{machine_line(result.machine)}{extra}; Python {result.machine['python']}, {libraries}; "
        f"commit {short}; {result.date[:10]}; `{result.command}`.\n\n</details>"
    )


def charts(results: Sequence[Named]) -> dict[str, Results]:
    """Results to draw, by the path of the chart."""
    return {
        f"{PAGES}/{name}.png": result
        for name, result in results
        if result.kind == "bench" and any(row["fps"] is not None for row in result.rows)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages and charts, or with ``--check`` say if they are current."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; exit 3 if stale.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="Folder of results and pages.")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    try:
        results = load_all(folder / "results")
        pages, drawn = texts(results), charts(results)
        if options.check:
            return _check(folder, pages, drawn)
        for path, text in pages.items():
            with atomic_write(folder / path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for path, result in drawn.items():
            chart(result.rows, folder / path, machine=machine_line(result.machine))
    except EdgecarError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _check(folder: Path, pages: Mapping[str, str], drawn: Iterable[str]) -> int:
    stale = [
        path
        for path, text in pages.items()
        if not (folder / path).exists() or (folder / path).read_text(encoding="utf-8") != text
    ]
    stale += [path for path in drawn if not (folder / path).exists()]
    known = {*pages, *drawn}
    stale += [
        str(path.relative_to(folder))
        for path in sorted((folder / PAGES).glob("*"))
        if str(path.relative_to(folder)) not in known
    ]
    if stale:
        sys.stderr.write(f"{folder.name}/{stale[0]} does not fit the result files; make tables\n")
    return STALE_EXIT if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
