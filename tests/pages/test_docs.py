"""Examples in docstrings and docs/ run as they stand; docs/api.md is what the docstrings say."""

import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SPEC = importlib.util.spec_from_file_location("docs_api", DOCS / "api.py")
api = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(api)
NEEDS = {"fastbp.sklearn": "sklearn", "fastbp.pictures": "matplotlib"}
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fastbp").rglob("*.py"))
    if ">>> " in path.read_text()
]


def have(name):
    """Skip where a module's extra is not installed."""
    for package, extra in NEEDS.items():
        if name == package or name.startswith(f"{package}."):
            pytest.importorskip(extra)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples(name, tmp_path, monkeypatch, capsys):
    have(name)
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
    have(f"fastbp.{module}")
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


def run(page, names):
    """The Python examples of a page, one after the other; returns the names that they made."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, f"docs/{page}", "exec"), names)
    return names


def test_guide(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    names = run("guide.md", {})
    X, y, test = names["X"], names["y"], names["test"]
    assert np.mean(names["digit"] == y[test]) > 0.88 and names["model"].score(X[test], y[test]) > 0.94
    assert names["trainer"].evaluate(X[test], y[test])["accuracy"] > 0.94
    assert names["regression"].evaluate(names["Z"][test], names["centre"][test], metrics=["r2"])["r2"] > 0.7
    assert {p.name for p in tmp_path.iterdir()} == {"log.csv", "digits.safetensors", "digits.c"}
    assert "layer 0 forward" in capsys.readouterr().out


def test_fitting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run("fitting.md", {})
    assert {p.name for p in tmp_path.iterdir()} >= {"best.safetensors", "log.csv", "logs", "layers.png"}
    assert names["codes"].shape == (1797, 8)
    assert np.mean((names["again"] - names["X"]) ** 2) < 0.5 * names["X"].var()
    known = names["labels"] >= 0
    assert known.mean() > 0.5 and np.mean(names["labels"][known] == names["y"][200:][known]) > 0.85
    assert "worst_class" in capsys.readouterr().out


@pytest.mark.parametrize(
    "page", ["training.md", "layers.md", "functions.md", "sklearn.md", "speed.md", "reproduce.md"]
)
def test_other_pages(page, tmp_path, monkeypatch, capsys, rng):
    """What these leave out: the data."""
    monkeypatch.chdir(tmp_path)
    if page == "sklearn.md":
        pytest.importorskip("sklearn")
    X, y = rng.standard_normal((256, 784)), rng.integers(0, 10, 256)
    names = run(page, {"fb": fastbp, "X": X, "y": y, "Xt": X, "yt": y, "frame": X[:, :5]})
    if page == "training.md":
        assert names["trainer"].steps == 20 * 2 and (tmp_path / "model.safetensors").exists()
    if page == "layers.md":
        assert names["net"].embeddings[0].shape == (50, 8) and names["net"].norms == ["layer"] * 3
    if page == "speed.md":
        assert "layer 1 dX" in capsys.readouterr().out
    if page == "reproduce.md":
        activation, loss = re.findall(r"^(?:activation|loss) (.+)$", capsys.readouterr().out, re.M)
        assert 0 < float(activation) < 5 and 0 < float(loss) < 5  # seconds: compiled, not loaded


PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "kernels" / "README.md"])


def outside_code(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", outside_code(page), re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", outside_code(page)):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert file.startswith("https://") or target.exists(), link
        assert not anchor or file.startswith("https://") or anchor in anchors(target), link


def test_the_index_has_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"[{page.name}]({page.name})" in index, page.name


def test_every_picture_and_every_benchmark_is_in_reproduce():
    from bench.__main__ import PARTS

    text = (DOCS / "reproduce.md").read_text(encoding="utf-8")
    assert all(f"python -m bench --{part}" in text for part in PARTS)
    pictures = [p.name for suffix in ("png", "svg") for p in DOCS.glob(f"*.{suffix}")]
    assert "roofline.png" in pictures and all(f"docs/{name}" in text for name in pictures)


def test_the_map_of_the_code_names_every_file():
    page = (ROOT / "docs" / "README.md").read_text()
    the_map = page.split("## Where the code is")[1].split("[kernels/]")[0]
    there = {p.name + "/" * p.is_dir() for p in (ROOT / "fastbp").iterdir() if not p.is_symlink()}
    there = {name for name in there if name.endswith((".py", "/"))} - {"__init__.py", "__pycache__/"}
    assert set(re.findall(r"[a-z_0-9]+(?:\.py|/)", the_map)) - {"fastbp/"} == there
