"""Docstrings and help texts begin as a sentence does."""

import ast
import re
from pathlib import Path

import pytest
import typer
from click import Command, Group

from edgecar.cli import app

ROOT = Path(__file__).parents[1]
POINTERS = ("Of", "That", "What", "Whether", "From", "With")
"""Words that point at something a stranger has not read."""
ROOMS = ("benchmarks", "edgecar")
SECTIONS = ("Args:", "Attributes:", "Returns:", "Yields:", "Raises:")


def beginnings(docstring: str) -> list[str]:
    """The first word of a docstring, of each of its arguments, and of what it returns."""
    lines = docstring.expandtabs().splitlines()
    words, section = re.findall(r"\w+", lines[0])[:1] if lines else [], ""
    for line in lines[1:]:
        text = line.strip()
        if text in SECTIONS:
            section = text
        elif section in ("Returns:", "Yields:") and text:
            words += re.findall(r"\w+", text)[:1]
            section = ""
        elif section and (match := re.match(r"\s*\w+(?:, \w+)*: (\w+)", line)):
            words.append(match[1])
    return words


def docstrings(tree: ast.Module) -> list[tuple[int, str]]:
    """Every docstring of a module, those of attributes included, with its line."""
    return [
        (node.lineno, node.value.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_a_subject_or_a_verb(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {word} …"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        for word in beginnings(text)
        if word in POINTERS
    ]
    assert not wrong, "\n".join(wrong)


def commands(command: Command) -> list[Command]:
    if isinstance(command, Group):
        return [each for child in command.commands.values() for each in commands(child)]
    return [command]


@pytest.mark.parametrize("command", commands(typer.main.get_command(app)), ids=lambda c: c.name)
def test_help_texts_begin_with_a_verb_or_a_noun(command):
    texts = {command.name: command.help or ""}
    texts |= {each.name: getattr(each, "help", None) or "" for each in command.params}
    wrong = {name: text for name, text in texts.items() if not text or text.split()[0] in POINTERS}
    assert not wrong
