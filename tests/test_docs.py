"""The examples in docs/fitting.md run as they stand, one after the other."""

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def test_fitting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "fitting.md").read_text(), re.M | re.S)
    assert len(blocks) >= 7
    names = {}
    for block in blocks:
        exec(compile(block, "docs/fitting.md", "exec"), names)
    assert {p.name for p in tmp_path.iterdir()} >= {"best.safetensors", "log.csv", "logs", "layers.png"}
    assert names["codes"].shape == (1797, 8)
    assert np.mean((names["again"] - names["X"]) ** 2) < 0.5 * names["X"].var()
    known = names["labels"] >= 0
    assert known.mean() > 0.5 and np.mean(names["labels"][known] == names["y"][200:][known]) > 0.85
    assert "worst_class" in capsys.readouterr().out
