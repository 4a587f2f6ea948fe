"""Every script of examples/ runs, quickly, and beats its simple model; missing data is said in one line."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the examples compare with scikit-learn")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ALONE = ("handwriting", "diagnosis", "autoencoder", "semi_supervised")  # need nothing beyond scikit-learn


@pytest.fixture
def as_script(monkeypatch):
    """Names and arguments as ``python examples/NAME.py ARGUMENTS`` has them, in this process."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def prepare(name, *arguments):
        path = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        monkeypatch.delitem(sys.modules, "side_by_side", raising=False)
        return path

    return prepare


def listed():
    from examples.__main__ import NAMES

    return NAMES


def test_all_scripts_are_listed():
    scripts = {p.stem for p in EXAMPLES.glob("*.py")} - {"__init__", "__main__", "side_by_side"}
    assert scripts == set(listed())
    page = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"[{name}.py]({name}.py)" in page for name in scripts)


@pytest.mark.parametrize("name", listed())
def test_beats_the_simple_model(name, as_script, capsys):
    path = as_script(name, "--quick", "--rounds", "3" if name in ALONE else "1")
    try:
        found = runpy.run_path(str(path), run_name="__main__")["comparison"]
    except SystemExit as missing:
        assert name not in ALONE and "Its data is not here: " in str(missing)
        pytest.skip(str(missing))
    scores = [np.mean(row["scores"]) for row in found["rows"]]
    assert np.isfinite(scores).all() and all(row["seconds"] > 0 for row in found["rows"])
    assert (scores[0] < scores[-1]) if found["lower"] else (scores[0] > scores[-1]), found
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == found["title"] and len(lines) == 2 + len(scores)
    assert "fastbp" in lines[2] and lines[2].endswith("s")


@pytest.mark.parametrize("name", listed())
def test_says_what_it_is(name):
    from examples.__main__ import facts

    source = (EXAMPLES / f"{name}.py").read_text("utf-8")
    about = facts(source.split('"""')[1])
    assert about["title"].endswith("?") and set(about) == {"title", "Data", "Licence", "Get", "Shows"}
    assert len(source.splitlines()) <= 100


def test_missing_data_ends_in_one_line(as_script):
    as_script("faces")
    import side_by_side

    doc = "Cats: is it one?\n\nData: cats\nGet: pip install cats"
    said = "Cats: is it one? Its data is not here: pip install cats"
    for absent in (
        lambda: side_by_side.module("no_such_module_of_cats", doc),
        lambda: side_by_side.file("cats.npy", doc, "no-such-package-of-cats"),
        lambda: side_by_side.file(str(ROOT / "cats.npy"), doc),
    ):
        with pytest.raises(SystemExit) as ended:
            absent()
        assert ended.value.code == said
    assert side_by_side.module("json", doc) is json
    assert side_by_side.file(__file__, doc) == Path(__file__)


def test_the_table_of_all(tmp_path, monkeypatch, capsys):
    """In processes of their own, as a user and README.md run them."""
    from examples import __main__ as command

    page = tmp_path / "README.md"
    page.write_text(f"before\n{command.BEGIN}old{command.END}after\n", "utf-8")
    monkeypatch.setattr(command, "write", lambda text, write=command.write: write(text, page))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert command.main(["handwriting", "--quick", "--rounds", "2", "--readme"]) == 0
    text = page.read_text("utf-8")
    assert text.startswith(
        f"before\n{command.BEGIN}Mean ± standard deviation over 2 seeds"
    ) and text.endswith("after\n")
    assert "old" not in text and "| [handwriting.py](handwriting.py) | accuracy on 360" in text
    assert "logistic regression: 0.94" in text and "CC BY 4.0" in text
    assert "handwriting" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, EXAMPLES / "handwriting.py", "--rows"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "unrecognized arguments: --rows" in done.stderr
