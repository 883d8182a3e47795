"""Tests assert facts, not prose: what pins a sentence keeps anybody from improving it.

A test function pins prose if a string in one of its assertions has three words in a row. A word is
two or more letters; in a row are words with one space between them. Its assertions are `assert`
statements, `match=` arguments, and the values that `pytest.mark.parametrize` passes to either.
"""

import ast
import re

from tests.conftest import REPOSITORY

THREE_WORDS = re.compile(r"(?<![\w-])[A-Za-z]{2,},?( [A-Za-z]{2,},?){2}(?![\w-])")
MOST = 10  # data, such as titles and lines of files, look like prose


def strings(nodes):
    for node in nodes:
        for each in ast.walk(node):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value


def names(nodes):
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


def assertions(function):
    """Return the expressions that `function` asserts."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            yield node.test
        elif isinstance(node, ast.keyword) and node.arg == "match":
            yield node.value


def parametrized(function):
    """Yield the names and the values of each `pytest.mark.parametrize` of `function`."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize"):
            first, values = decorator.args[:2]
            listed = first.value.split(",") if isinstance(first, ast.Constant) else strings([first])
            yield [name.strip() for name in listed], values


def columns(listed, values):
    """Yield each parameter's name and the expressions that are its values."""
    for row in getattr(values, "elts", [values]):
        cells = row.elts if len(listed) > 1 and hasattr(row, "elts") else [row] * len(listed)
        yield from zip(listed, cells, strict=False)


def prose_of(function, constants):
    """Return the strings of three words in a row that `function` asserts."""
    asserted = list(assertions(function))
    used = names(asserted)
    asserted += [constants[name] for name in used & set(constants)]
    for listed, values in parametrized(function):
        values = constants.get(getattr(values, "id", None), values)
        asserted += [cell for name, cell in columns(listed, values) if name in used]
    return [text for text in strings(asserted) if THREE_WORDS.search(text)]


def pinned():
    """Return the test functions that pin prose, and what they pin."""
    found = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        constants = {
            target.id: node.value for node in tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                if prose := prose_of(node, constants):
                    name = path.relative_to(REPOSITORY / "tests").as_posix()
                    found[f"{name}::{node.name}"] = prose
    return found


def test_assertions_are_of_facts_and_not_of_sentences():
    assert len(found := pinned()) <= MOST, "\n".join(found)
