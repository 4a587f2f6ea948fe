"""README.md holds: its Python example runs, its two commands are those that .ci/run runs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_python_example(tmp_path, monkeypatch):
    import fastbp as fb

    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) == 10
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    accuracy = names["trainer"].evaluate(names["X"][:360], names["y"][:360])["accuracy"]
    assert accuracy > 0.9 and accuracy == names["history"].history["val_accuracy"][-1]
    assert names["probabilities"].shape == (360, 10)
    assert [w.shape for w, _ in names["gradients"]] == [(64, 256), (256, 128), (128, 10)]
    again = fb.load(tmp_path / "digits.safetensors")
    assert (again.predict(names["X"][:360]) == names["probabilities"]).all()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ci_runs_the_commands_as_they_stand_here():
    stated = [block.strip() for block in blocks("bash")]
    assert stated == [
        "pip install '.[plot]' && fastbp train digits",
        "pip install '.[test]' && pytest -n 2 --dist loadfile",
    ]
    done = subprocess.run(["bash", ROOT / ".ci" / "run", "commands"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == stated


def test_the_first_command_prints_and_writes_what_is_said(tmp_path, monkeypatch, capsys):
    """With matplotlib, which the command installs. Another processor rounds otherwise."""
    pytest.importorskip("matplotlib")
    from fastbp import cli

    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "digits", "--quiet"]) == 0
    printed = {line[:15].strip(): line[16:] for line in capsys.readouterr().out.splitlines()}
    (shown,) = blocks("text")
    shown = {line[:15].strip(): line[16:] for line in shown.splitlines()}
    accuracy = [float(lines["test accuracy"].split()[0]) for lines in (shown, printed)]
    assert accuracy[1] == pytest.approx(accuracy[0], abs=0.02)
    assert all(printed[label] == text for label, text in shown.items() if label != "test accuracy")
    assert {p.name for p in tmp_path.iterdir()} == {shown["picture"], shown["model"].split()[0]}


def test_one_screen_and_no_dead_links():
    assert len(README.splitlines()) <= 70
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_the_script_in_docs_makes_the_coefficients():
    pytest.importorskip("mpmath", reason="mpmath comes with torch's sympy: pip install mpmath")
    import numpy as np

    from fastbp.kernels import formulas

    (script,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "maths.md").read_text(), re.M | re.S)
    names = {}
    exec(compile(script, "docs/maths.md", "exec"), names)
    for table, fits in (
        (formulas.EXPM1, names["P"]),
        (formulas.TAIL, names["Q"]),
        (formulas.SINE, names["S"]),
    ):
        for is64, dtype in ((False, "float32"), (True, "float64")):
            made = np.array([float(c) for c in fits[dtype][0]]).astype(dtype)
            assert np.array_equal(made, np.array(table[is64]).astype(dtype))
            assert fits[dtype][1] < np.finfo(dtype).eps / 8
