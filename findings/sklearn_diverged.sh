#!/usr/bin/env bash
# scikit-learn 1.9.1: MLPRegressor(solver="sgd") whose training diverges raises ValueError ("non-finite parameter weights"). With
# early_stopping=True it does not: the weights are NaN from the first epochs on, all max_iter epochs are trained none the less, and
# the best of the weights that were still finite, R2 far below 0, are what fit returns. Among the warnings none says so; the
# last one asks for more iterations.
# Seen:
#   scikit-learn 1.9.1: early_stopping=False ValueError
#   scikit-learn 1.9.1: early_stopping=True 300 epochs, R2 below -1e6: True, warnings that name divergence or NaN: 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON' | tee "$work/seen"
import warnings

import numpy as np
import sklearn
from sklearn.neural_network import MLPRegressor

rng = np.random.default_rng(0)
X = 1000 * rng.normal(size=(200, 5))
y = X @ rng.normal(size=5)
for early in (False, True):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network = MLPRegressor(hidden_layer_sizes=(50,), solver="sgd", learning_rate_init=0.01, max_iter=300,
                               early_stopping=early, random_state=0)  # fmt: skip
        try:
            network.fit(X, y)
        except ValueError as error:
            result = type(error).__name__
        else:
            texts = [str(w.message).lower() for w in said]
            named = sum("nan" in t or "diverge" in t or "finite" in t for t in texts)
            low = network.score(X, y) < -1e6
            result = f"{network.n_iter_} epochs, R2 below -1e6: {low}, warnings that name divergence or NaN: {named}"
    print(f"scikit-learn {sklearn.__version__}: early_stopping={early} {result}")
PYTHON
diff "$work/seen" - <<'SEEN' && echo "as it was"
scikit-learn 1.9.1: early_stopping=False ValueError
scikit-learn 1.9.1: early_stopping=True 300 epochs, R2 below -1e6: True, warnings that name divergence or NaN: 0
SEEN
