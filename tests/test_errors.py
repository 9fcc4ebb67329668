"""The failures a user can meet."""

import inspect
import re

import pytest

from edgecar import errors
from edgecar.errors import AnswerError, EdgecarError, GateError, ReuseError

CLASSES = dict(inspect.getmembers(errors, inspect.isclass))


def drawn_tree() -> dict[str, str]:
    """Class to parent, as the docstring draws them."""
    parents, above = {}, [(0, "EdgecarError")]
    for line in errors.__doc__.splitlines():
        drawn = re.match(r"([ │├└─]+)(\w+Error)\b", line)
        if not drawn or drawn[2] == "EdgecarError":
            continue
        depth = len(drawn[1])
        above = [entry for entry in above if entry[0] < depth]
        parents[drawn[2]] = above[-1][1]
        above.append((depth, drawn[2]))
    return parents


def test_docstring_draws_every_class_under_its_parent() -> None:
    real = {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items()}
    assert real.pop("EdgecarError") == "Exception"
    assert drawn_tree() == real
    assert len(real) >= 9


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_one_of_ours_and_documented(name) -> None:
    assert issubclass(CLASSES[name], EdgecarError)
    assert CLASSES[name].__doc__


@pytest.mark.parametrize("name", CLASSES)
def test_exit_code_is_1_but_3_where_a_check_said_no(name) -> None:
    kind = CLASSES[name]
    assert kind.exit_code == (3 if issubclass(kind, (AnswerError, GateError, ReuseError)) else 1)
    assert kind("said").exit_code == kind.exit_code
    assert str(kind("said")) == "said"
