"""Budgets: a full file is split by subject, a small one merged by subject; no module holds the rest."""

import ast

from tests.architecture.source import name, python_files, tree

FILE_LINES = 400
FUNCTION_LINES = 80
PACKAGE_FILES = 325
PACKAGE_LINES = 62_250
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc"}


def test_no_file_is_longer_than_the_budget() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in python_files()}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES} == {}


def test_the_package_is_not_larger_than_its_budget() -> None:
    files = python_files("more4d")
    assert len(files) <= PACKAGE_FILES
    assert sum(len(path.read_text().splitlines()) for path in files) <= PACKAGE_LINES


def test_no_function_is_longer_than_the_budget() -> None:
    lengths = {
        f"{name(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {function: lines for function, lines in lengths.items() if lines > FUNCTION_LINES} == {}


def test_no_module_is_a_drawer() -> None:
    drawers = [
        name(path)
        for path in python_files()
        if {part.strip("_0123456789") for part in path.with_suffix("").parts} & DRAWERS
    ]
    assert drawers == []
