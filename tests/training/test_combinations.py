"""Random combinations beside an independent model in torch.

The long form: python tests/support/combinations.py --count 500
"""

import os

import pytest

pytest.importorskip("torch", reason="torch comes with the extra: pip install '.[compare]'")


def test_combinations_train_as_in_torch():
    from combinations import battery

    counts, findings = battery(15, int.from_bytes(os.urandom(4), "little"))
    assert not findings and counts["same"] >= 8, "\n".join(findings)
