"""Fashion: which of ten kinds of clothing is it, seen on 28 x 28 pixels?

Data: 60,000 + 10,000 pictures, Fashion-MNIST, Zalando
Licence: MIT
Get: apt install dataset-fashion-mnist
Shows: reading idx files, AdamW, an average of the weights
"""

from side_by_side import compare, file, quick
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier

import fastbp as fb
from fastbp import files


def pictures(part, rows):
    """(rows, 784) float32 from 0 to 1, (rows,) labels; the labels' file lies beside the images'."""
    path = file(f"/usr/share/datasets/fashion-mnist/{part}-images-idx3-ubyte.gz", __doc__)
    table = files.read(path)
    return table.X[:rows].astype("float32") / 255, table.y[:rows]


X, y = pictures("train", 5000 if quick else None)
Xt, yt = pictures("t10k", 2000 if quick else None)
epochs = 6 if quick else 10


def fastbp(seed):
    net = fb.MLP([784, 256, 128, 10], dropout=0.1, seed=seed)
    trainer = fb.Trainer(
        net, optimizer=fb.AdamW(2e-3), batch_size=128, schedule="cosine", ema=0.99, seed=seed
    )
    trainer.fit(X, y, epochs=epochs)
    return trainer.evaluate(Xt, yt)["accuracy"]  # by the average


def sklearn(seed):
    model = MLPClassifier((256, 128), batch_size=128, max_iter=epochs, random_state=seed)
    return model.fit(X, y).score(Xt, yt)


def logistic(seed):
    return LogisticRegression(max_iter=100).fit(X, y).score(Xt, yt)


def nearest(seed):
    return NearestCentroid().fit(X, y).score(Xt, yt)


comparison = compare(
    __doc__,
    f"accuracy on {len(yt):,} test pictures",
    {
        "fastbp": fastbp,
        "scikit-learn's MLPClassifier": sklearn,
        "logistic regression": logistic,
        "nearest mean picture": nearest,
    },
)
