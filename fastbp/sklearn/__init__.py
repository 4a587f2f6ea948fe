"""Estimators with scikit-learn's own interface: change the import, keep the rest.

Needs scikit-learn (the extra ``sklearn``); ``import fastbp`` does not.
"""

from .autoencoder import MLPAutoencoder
from .search import MLPHalvingSearchCV, MLPSearchCV, cross_validate
from .supervised import MLPClassifier, MLPRegressor
from .tabular import TabularPreprocessor
from .together import together

__all__ = [
    "MLPAutoencoder",
    "MLPClassifier",
    "MLPHalvingSearchCV",
    "MLPRegressor",
    "MLPSearchCV",
    "TabularPreprocessor",
    "cross_validate",
    "together",
]
