"""Examples in docstrings and docs/ run as they stand; docs/api.md is what the docstrings say."""

import doctest
import importlib
import importlib.util
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pages
import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SPEC = importlib.util.spec_from_file_location("docs_api", DOCS / "api.py")
api = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(api)
NEEDS = {"fastbp.sklearn": "sklearn", "fastbp.pictures": "matplotlib", "fastbp.optuna": "optuna"}
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


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(page): what its Python left, and what its commands printed; as pasted into an empty folder."""
    monkeypatch.chdir(tmp_path)
    return pages.run


def test_every_page_with_code_is_run():
    """By the tests below, the README's in test_readme.py; two need what is not everywhere."""
    coded = [page for page in pages.PAGES if "python" in dict(pages.blocks(page))]
    here = {
        f"docs/{name}"
        for name in (*OTHERS, "guide.md", "fitting.md", "sklearn.md", "gpu.md", "files.md", "many.md")
    }
    elsewhere = {"README.md", "docs/maths.md", "fastbp/datasets/README.md"}
    assert {page.relative_to(ROOT).as_posix() for page in coded} == here | elsewhere


def test_guide(run, tmp_path):
    pytest.importorskip("sklearn")
    names, printed = run(DOCS / "guide.md")
    X, y, test = names["X"], names["y"], names["test"]
    assert np.mean(names["digit"] == y[test]) > 0.88 and names["model"].score(X[test], y[test]) > 0.94
    assert names["trainer"].evaluate(X[test], y[test])["accuracy"] > 0.94
    assert names["regression"].evaluate(names["Z"][test], names["centre"][test], metrics=["r2"])["r2"] > 0.7
    made = {"log.csv", "digits.safetensors", "digits.c", "houses.csv", "new.csv", "prices.csv"}
    assert {p.name for p in tmp_path.iterdir()} >= made
    assert float(re.search(r"^test R2 +(\S+)", printed, re.M)[1]) > 0.98
    prices = np.loadtxt("prices.csv", skiprows=1, delimiter=",")
    assert prices == pytest.approx([3000 * 80 - 1500 * 5, 3000 * 120 - 1500 * 40], rel=0.1)


def test_fitting(run, tmp_path, capsys):
    names, _ = run(DOCS / "fitting.md")
    assert {p.name for p in tmp_path.iterdir()} >= {"best.safetensors", "log.csv", "logs", "layers.png"}
    assert names["codes"].shape == (1797, 8)
    assert np.mean((names["again"] - names["X"]) ** 2) < 0.5 * names["X"].var()
    known = names["labels"] >= 0
    assert known.mean() > 0.5 and np.mean(names["labels"][known] == names["y"][200:][known]) > 0.85
    assert "worst_class" in capsys.readouterr().out


def test_sklearn(run):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    names, _ = run(DOCS / "sklearn.md")
    assert names["model"].score(names["X"], names["y"]) > 0.95


def test_many(run):
    pytest.importorskip("sklearn")
    optuna = pytest.importorskip("optuna")
    names, _ = run(DOCS / "many.md")
    states = [trial.state.name for trial in names["study"].trials]
    assert len(states) == 16 and set(states) <= {"COMPLETE", "PRUNED"}
    assert names["study"].best_value > 0.7 and isinstance(names["study"].pruner, optuna.pruners.MedianPruner)


def test_files(run, tmp_path):
    pytest.importorskip("onnx")
    _, printed = run(DOCS / "files.md")
    assert json.loads(re.search(r"^{.*}$", printed, re.M)[0])["r2"] > 0.95
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == "id,price" and lines[1].startswith("h900,") and len(lines) == 51
    assert {"fastbp-houses.onnx", "fastbp-houses.c"} <= {p.name for p in tmp_path.iterdir()}


def test_gpu(run):
    """Read, at least: it runs where torch finds a GPU."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        assert run(DOCS / "gpu.md")[0]["out"].is_cuda
    for language, text in pages.blocks(DOCS / "gpu.md"):
        assert language != "python" or compile(text, "gpu.md", "exec")


OTHERS = ("api.md", "training.md", "layers.md", "functions.md", "speed.md", "reproduce.md")


@pytest.mark.parametrize("page", OTHERS)
def test_other_pages(page, run, tmp_path, capsys):
    names, _ = run(DOCS / page)
    if page == "training.md":
        assert names["trainer"].steps == 20 * 12 and (tmp_path / "model.safetensors").exists()
        assert names["trainer"].evaluate(names["Xt"], names["yt"])["accuracy"] > 0.9
    if page == "layers.md":
        assert names["net"].embeddings[0].shape == (50, 8) and names["net"].norms == ["layer"] * 3
    if page == "speed.md":
        assert "layer 1 dX" in capsys.readouterr().out
    if page == "reproduce.md":
        activation, loss = re.findall(r"^(?:activation|loss) (.+)$", capsys.readouterr().out, re.M)
        assert 0 < float(activation) < 5 and 0 < float(loss) < 5  # seconds: compiled, not loaded


def test_the_data_sets_page(run):
    assert run(ROOT / "fastbp" / "datasets" / "README.md")[0]["X"].shape == (1797, 64)


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_name_what_is_there(page):
    """Files, modules and extras; the options of fastbp are tried by those that run."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = [w for language, text in pages.blocks(page) if language == "bash" for w in pages.lines(text)]
    for words in commands:
        assert pages.lacking(words, project["optional-dependencies"]) == [], words


def test_the_reader_of_commands():
    text = "pip install '.[plot,x]' && fastbp train a.csv  # a && b\npython -m bench.nothing tests/no.py\n"
    found = list(pages.lines(text))
    assert found[1] == ["fastbp", "train", "a.csv"] and len(found) == 3
    lacking = [pages.lacking(words, {"plot"}) for words in found]
    assert lacking == [["x"], [], ["bench.nothing", "tests/no.py"]]


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
