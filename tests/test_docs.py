"""Examples in docstrings and docs/ run as they stand; docs/api.md is what the docstrings say."""

import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SPEC = importlib.util.spec_from_file_location("docs_api", DOCS / "api.py")
api = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(api)
NEEDS = dict.fromkeys(["fastbp.sklearn", "fastbp.transformer", "fastbp.tabular"], "sklearn")
NEEDS["fastbp.pictures"] = "matplotlib"
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fastbp").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    module, before = importlib.import_module(name), compile(api.BEFORE, "docs/api.py: BEFORE", "exec")
    runner, ran = doctest.DocTestRunner(verbose=False), 0
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}):
        if test.examples:
            exec(before, test.globs)  # fresh for each
            runner.run(test)
            ran += 1
    assert ran and not runner.failures, capsys.readouterr().out


def public():
    return [(module, n, thing) for module in api.MODULES for n, thing in _found(module)]


def _found(module):
    if f"fastbp.{module}" in NEEDS:
        pytest.importorskip(NEEDS[f"fastbp.{module}"])
    return api.public(module)[1]


def test_every_public_name_has_a_docstring_and_every_tool_an_example():
    for module, name, thing in public():
        text = inspect.getdoc(thing)
        assert text, f"{module}.{name} has no docstring"
        for part, member in api.methods(thing) if inspect.isclass(thing) else ():
            assert inspect.getdoc(member), f"{module}.{name}.{part} has no docstring"
        simple = module in ("math", "initializers") or name in ("LayerReport", "Row", "cpu_model", "caches")
        assert ">>> " in text or simple or name == "load_digits", f"{module}.{name} has no example"


def test_the_api_page_is_up_to_date():
    for module in api.MODULES:
        _found(module)
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert page == api.page(), "docs/api.md is older than the docstrings: python docs/api.py"
    heads = re.findall(r"^###? (.+)$", page, re.M)
    assert len(heads) == len(set(heads))
    for _, name, _ in public():  # a heading, or a line among the short ones
        assert any(h.endswith(f".{name}") for h in heads) or re.search(rf"^{name}\(.*\): ", page, re.M), name
    for name in fastbp.__all__:
        assert f"fb.{name}" in heads or f"fastbp.{name}" in heads, name
