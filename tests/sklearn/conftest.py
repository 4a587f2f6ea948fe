"""What the tests of scikit-learn's loops over our estimators share."""

import pytest


@pytest.fixture
def calls(monkeypatch):
    """How many networks each compiled call for many trained."""
    from fastbp.training import many

    found = []

    def train(fits, inner=many.train):
        found.append(len(fits))
        inner(fits)

    monkeypatch.setattr(many, "train", train)
    return found
