"""What the project promises beside its code: versions, the file format, who cites it, what hosts run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "tests" / "support"
POLICIES = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")


def project():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == fb.__version__ == project()["version"]
    assert re.search(r"^## \[(.+?)\]", changes, re.M)[1] == fb.__version__
    assert re.search(r"^license: (.+)$", citation, re.M)[1] == project()["license"]
    authors = re.findall(r"^  - name: (.+)$", citation, re.M)
    assert authors and all(name in (ROOT / "LICENSE").read_text(encoding="utf-8") for name in authors)


def test_the_policy_names_the_format():
    assert f"`FORMAT` in fastbp/training/checkpoint.py, now {checkpoint.FORMAT}." in POLICIES


@pytest.mark.parametrize("number", range(1, checkpoint.FORMAT + 1))
def test_a_model_of_each_format_is_read_and_trains_on(number):
    """Of another processor, so not to the bit."""
    kept = json.loads((KEPT / f"format-{number}.json").read_text(encoding="utf-8"))
    trainer = fb.load(KEPT / f"format-{number}.safetensors", device="cpu")
    np.testing.assert_allclose(trainer.predict(kept["X"]), kept["predictions"], atol=1e-5)
    trainer.fit(kept["X"], kept["y"], epochs=2, verbose=0)
    np.testing.assert_allclose(trainer.predict(kept["X"]), kept["after"], atol=1e-3)
    assert (trainer.steps, trainer.epochs) == (kept["steps"], kept["epochs"])


def test_a_newer_format_is_refused_with_both_numbers(tmp_path):
    content = (KEPT / "format-1.safetensors").read_bytes()
    newer = content.replace(rb"{\"format\": 1,", rb"{\"format\": 9,")
    assert newer != content
    (tmp_path / "newer.safetensors").write_bytes(newer)
    with pytest.raises(ValueError, match=f"format 9, this version reads {checkpoint.FORMAT}"):
        fb.load(tmp_path / "newer.safetensors")


def test_models_hold_no_functions_of_the_user(tmp_path):
    """As SECURITY.md says: the name and a digest, no formula."""
    own = fb.activation(lambda z: z * fb.math.sin(z), name="own")
    fb.Trainer(fb.MLP([2, 3, 2], own, seed=0)).save(tmp_path / "model.safetensors")
    (named,) = re.findall(
        rb'"activation\W+: \[\W+"(.*?)\W+"\]', (tmp_path / "model.safetensors").read_bytes()
    )
    assert re.fullmatch(rb"own#[0-9a-f]{12}", named)


def test_hosted_ci_runs_what_is_here():
    flow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "run: .ci/run" in flow and {"ubuntu-latest", "macos-latest", "windows-latest"} <= set(
        re.findall(r"runs-on: (\S+)", flow)
    )
    linux = re.search(r'python: \["(3\.10)", .*"\]', flow)[0]
    assert re.findall(r'"(3\.\d+)"', linux) == ["3.10", "3.11", "3.12", "3.13"]
    assert project()["requires-python"] == ">=3.10"
    for path in re.findall(r"\btests/[\w/.]+", flow):
        assert (ROOT / path).exists(), path


def test_pre_commit_runs_what_is_here():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert len(re.findall(r"entry: ruff (?:check|format)", hooks)) == 2
    assert len(set(re.findall(r"\[(ruff==[\d.]+)\]", hooks))) == 1
    tests = re.findall(r"\btests/[\w/.]+", hooks)
    assert tests and all((ROOT / path).exists() for path in tests)


def test_what_is_said_of_systems_is_what_the_hosts_are_to_run():
    """A row for each host of the workflow; none of it is called run before a host has run it."""
    flow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    table = POLICIES.split("### Where it runs")[1].split("\n\n")[0]
    hosts = set(re.findall(r"runs-on: (\S+)", flow)) - {"ubuntu-latest"}
    assert hosts and all(f"`{host}`" in table for host in hosts)
    for path in re.findall(r"(?:tests|\.github)/[\w/.-]+\w", table):
        assert (ROOT / path).exists(), path
