"""What is public: each function has types, and a change of names, parameters or types is noticed."""

import ast
import difflib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ("__init__", "__call__", "__len__", "__getitem__", "__str__", "__repr__")


def lacking(tree):
    """(line, name, what has no type) of each public function and method."""

    def visit(node, prefix, method):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                if not child.name.startswith("_"):
                    yield from visit(child, f"{prefix}{child.name}.", True)
            elif isinstance(child, ast.FunctionDef):
                a = child.args
                named = [*a.posonlyargs, *a.args]
                static = any(ast.unparse(d) == "staticmethod" for d in child.decorator_list)
                named = named[1:] if method and not static else named
                named += [*a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
                bare = [p.arg for p in named if p.annotation is None]
                bare += ["what it returns"] if child.returns is None else []
                if bare and (not child.name.startswith("_") or method and child.name in SPECIAL):
                    yield child.lineno, prefix + child.name, ", ".join(bare)
            elif not isinstance(child, ast.If) or ast.unparse(child.test) != "TYPE_CHECKING":
                yield from visit(child, prefix, method)

    return list(visit(tree, "", False))


def test_the_finder():
    source = (
        "def f(x: int, *y) -> int: ...\nclass A:\n    def __init__(self): ...\n    def g(self) -> int: ..."
    )
    assert [name for _, name, _ in lacking(ast.parse(source))] == ["f", "A.__init__"]


def test_every_public_function_has_types():
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}: {bare}"
        for path in sorted((ROOT / "fastbp").rglob("*.py"))
        if "kernels" not in path.relative_to(ROOT).parts
        for line, name, bare in lacking(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_public_names_parameters_and_types_are_those_written_down():
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("docs_api", ROOT / "docs" / "api.py")
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    written, now = api.SIGNATURES.read_text(encoding="utf-8"), api.signatures()
    change = [line for line in difflib.ndiff(written.splitlines(), now.splitlines()) if line[0] in "+-"]
    assert not change, "\n".join(
        [
            "what fastbp promises has changed:",
            *change,
            "If that is meant: python docs/api.py --signatures, and say it in CHANGELOG.md. A line that is",
            "gone or another default breaks programs of users; a new one does not.",
        ]
    )
