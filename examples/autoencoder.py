"""Autoencoder: how much of a picture of 64 pixels do 8 numbers keep?

Data: 1,797 digits, Optical Recognition of Handwritten Digits, UCI
Licence: CC BY 4.0
Get: comes with fastbp
Shows: Autoencoder, encode and decode, a cosine schedule
"""

from side_by_side import compare, quick
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor

import fastbp as fb
from fastbp import datasets

X, _ = datasets.load("digits")
X = (X / 16).astype("float32")
X, Xt = X[360:], X[:360]
epochs = 20 if quick else 150


def kept(again):
    return r2_score(Xt, again, multioutput="variance_weighted")


def fastbp(seed):
    coder = fb.Autoencoder([64, 128, 8], optimizer=fb.Adam(3e-3), schedule="cosine", seed=seed)
    coder.fit(X, epochs=epochs)
    codes = coder.encode(Xt)  # (360, 8)
    return kept(coder.decode(codes))


def sklearn(seed):
    model = MLPRegressor(
        hidden_layer_sizes=(128, 8, 128), batch_size=32, max_iter=epochs, n_iter_no_change=epochs,
        random_state=seed,
    )  # fmt: skip
    return kept(model.fit(X, X).predict(Xt))


def principal(seed):
    pca = PCA(8, random_state=seed).fit(X)
    return kept(pca.inverse_transform(pca.transform(Xt)))


comparison = compare(
    __doc__,
    "share of the variance kept of 360 held-out digits",
    {"fastbp": fastbp, "scikit-learn's MLPRegressor": sklearn, "8 principal components": principal},
)
