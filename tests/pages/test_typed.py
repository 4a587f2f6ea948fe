"""README.md, docs/ and examples/ as a user's code, and fastbp itself: clean for pyright and mypy."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp

ROOT = Path(__file__).resolve().parents[2]
WHERE = Path(fastbp.__file__).resolve().parents[1]  # of a checkout, or site-packages
CALLBACK = """\
import fastbp as fb
class Mine(fb.Callback):
    def on_epoch_end(self, epoch, logs=None):
        trainer = self.trainer
        trainer.stop_training = bool((trainer.net.params > 9).any()) or trainer.history.epochs > 3
        trainer.optimizer.lr, trainer.schedule = 0.1 * trainer.lr_scale, fb.schedules.Constant()
        trainer.net.weights[0][:] *= 0.9
        loss: float = trainer.evaluate([[1.0]], [0])["loss"] + trainer.gradients([[1.0]], [0])[0]
        trainer.save(f"{loss}-{trainer.steps}.safetensors")
trainer = fb.Trainer(fb.MLP([1, 2]))
trainer.fit([[1.0]], [0], callbacks=Mine())
"""
CHECKERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed: pip install '.[types]'"
        ),
    )
    for name in ("mypy", "pyright")
]


def write(folder):
    """The pages' Python, a file each, and the examples."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        code = "".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S))
        if code:
            (folder / f"page_{page.stem.lower()}.py").write_text(code, encoding="utf-8")
    (folder / "callback.py").write_text(CALLBACK, encoding="utf-8")
    for path in (ROOT / "examples").glob("[a-z]*.py"):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")


def errors(checker, folder, *arguments):
    """What a checker finds in a folder, one line each, by the Python that runs this."""
    done = subprocess.run(
        [sys.executable, "-m", checker, *arguments], cwd=folder, env=os.environ | {"MYPYPATH": ""},
        capture_output=True, text=True,
    )  # fmt: skip
    found = re.findall(r"^.*\berror: .*$", done.stdout, re.M)
    assert done.returncode == bool(found), done.stdout + done.stderr
    return found


def of_user(checker, folder):
    """What a checker finds in a user's files, who has fastbp installed."""
    if checker == "pyright":
        settings = {"typeCheckingMode": "basic", "extraPaths": [str(WHERE)], "reportMissingImports": False}
        settings["useLibraryCodeForTypes"] = False  # of libraries without types, scikit-learn's
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        return errors(checker, folder)
    lines = [
        "[mypy]",
        "ignore_missing_imports = true",
        "check_untyped_defs = true",
        "follow_imports = silent",
    ]
    if "site-packages" not in WHERE.parts:
        lines.append(f"mypy_path = {WHERE}")
    (folder / "mypy.ini").write_text("\n".join(lines))
    return errors(checker, folder, ".")


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_users_code(checker, tmp_path):
    write(tmp_path)
    assert len(list(tmp_path.glob("page_*.py"))) >= 10 and (tmp_path / "houses.py").exists()
    assert of_user(checker, tmp_path) == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_seen(checker, tmp_path):
    """The test above is worth what a checker finds here."""
    wrong = ['fb.MLP(["a"])', "fb.Trainer(3)", "fb.ELM([1, 2, 3]).predict([[1.0]]).no", "fb.nothing"]
    wrong += ["fb.Adam().lrr", 'fb.load("m").fit([[1]], [1], epochs=1).epoch', "fb.Callback().trainer.net.no"]
    (tmp_path / "wrong.py").write_text("\n".join(["import fastbp as fb", *wrong]))
    found = of_user(checker, tmp_path)
    assert {int(re.search(r"wrong\.py:(\d+)", line)[1]) for line in found} == set(range(2, 9))


@pytest.mark.skipif(WHERE != ROOT, reason="checks the sources")
@pytest.mark.parametrize("checker", CHECKERS)
def test_fastbp_itself(checker):
    assert errors(checker, ROOT) == []
