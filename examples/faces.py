"""Faces: is there one in this patch of 25 x 25 pixels?

Data: 100 faces and 100 other patches of Labeled Faces in the Wild, in scikit-image
Licence: none stated; news photographs gathered for research; the package is BSD
Get: pip install scikit-image
Shows: a function that makes each epoch's pictures anew (mirrored or not), layer norm
"""

import numpy as np
from side_by_side import compare, module, quick
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier

import fastbp as fb

X = module("skimage.data", __doc__).lfw_subset().reshape(200, 625).astype("float32")
X = (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)  # light and contrast of each picture
y = np.repeat([1, 0], 100)
epochs = 20 if quick else 60


def over_folds(train_and_score):
    """The mean of 5 folds, drawn by the seed."""

    def run(seed):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
        return np.mean([train_and_score(X[a], y[a], X[b], y[b], seed) for a, b in folds])

    return run


def fastbp(X, y, Xt, yt, seed):
    rng = np.random.default_rng(seed)
    pictures = np.stack([X, X.reshape(-1, 25, 25)[:, :, ::-1].reshape(-1, 625)])

    def epoch():
        order = rng.permutation(len(y))
        yield pictures[rng.integers(2, size=len(y)), order], y[order]

    net = fb.MLP([625, 64, 32, 1], norm="layer", seed=seed)
    trainer = fb.Trainer(net, "bce_with_logits", fb.Adam(1e-3), seed=seed)
    trainer.fit(epoch, epochs=epochs)
    return trainer.evaluate(Xt, yt)["accuracy"]


def sklearn(X, y, Xt, yt, seed):
    model = MLPClassifier(
        (64, 32), batch_size=32, max_iter=epochs, n_iter_no_change=epochs, random_state=seed
    )
    return model.fit(X, y).score(Xt, yt)


def logistic(X, y, Xt, yt, seed):
    return LogisticRegression(max_iter=1000).fit(X, y).score(Xt, yt)


def nearest(X, y, Xt, yt, seed):
    return NearestCentroid().fit(X, y).score(Xt, yt)


models = {
    "fastbp": fastbp,
    "scikit-learn's MLPClassifier": sklearn,
    "logistic regression": logistic,
    "nearest mean picture": nearest,
}
comparison = compare(__doc__, "accuracy, 5-fold", {name: over_folds(model) for name, model in models.items()})
