"""Measure peers side by side: losses agree first, then interleaved rounds, medians and quartiles."""

import time

import numpy as np

from .workers import REST, PeerFailed

AGREE_EPOCHS = 2  # every run's first epochs are compared, in each round again
# Relative, of the first epoch's mean loss: another order of samples moves it by 2e-3 to 1e-2. In the
# second, rounding has grown (to 7e-4 in keras, where hundreds of ReLUs flip): ten times as much.
TOLERANCE = 1e-3
RUN_SECONDS = 0.25  # that a timed run should last: fewer would be noise, more would not interleave


def compare(case, team, rounds, peak, say=print, run_seconds=RUN_SECONDS):
    """Time the workers of ``team``, {name: Worker} with "fastbp" among them, on a case.

    peak: a machine.Peak, measured in each round too. Returns a dict for JSON: the case, "peak" with
    the rounds' GFLOP/s on "one" and on "all" threads, and "peers": for each name its microseconds
    per step round by round ("us") and first losses, or "error" instead of times.
    """
    orders = team["fastbp"].call("draw_orders", case.samples, AGREE_EPOCHS)
    peers, epochs = {}, {}
    for name, worker in team.items():
        try:
            note = worker.call("open", case, orders)
            seconds, losses = worker.call("run", AGREE_EPOCHS)
        except PeerFailed as error:
            peers[name] = {"error": str(error.args[0])}
        else:
            epochs[name] = max(1, round(run_seconds * AGREE_EPOCHS / seconds))
            peers[name] = {"note": note, "losses": losses, "epochs_per_run": epochs[name], "us": []}
            expected = peers["fastbp"].get("losses", losses)
            peers[name]["disagreement"] = disagreement(losses, expected)
            if not agree(losses, expected):
                peers[name]["error"] = f"not timed: its losses are {losses}, fastbp's {expected}"
        if "error" in peers[name]:
            say(f"  {name}: {peers[name]['error']}")
            if name == "fastbp":
                raise PeerFailed(f"fastbp: {peers[name]['error']}", "")
    names = [name for name in team if "error" not in peers[name]]
    peaks = {"one": [], "all": []}
    for round_ in range(rounds):
        time.sleep(REST)
        peaks["one"].append(peak.gflops(1))
        peaks["all"].append(peak.gflops())
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            _timed(case, name, team[name], epochs[name], peers)
    return {"case": case.describe(), "peak": peaks, "peers": peers}


def _timed(case, name, worker, epochs, peers):
    """One run; the losses it comes by must be those of before."""
    time.sleep(REST)
    seconds, losses = worker.call("run", epochs)
    expected = peers[name]["losses"][: len(losses)]
    if not agree(losses[: len(expected)], expected):
        raise PeerFailed(f"{name}: its losses changed from run to run: {losses[:2]}, {expected}", "")
    peers[name]["us"].append(1e6 * seconds / epochs / case.steps)


def disagreement(losses, expected):
    """Relative differences, epoch by epoch; inf where one is not finite."""
    losses, expected = np.array(losses), np.array(expected)
    difference = np.abs(losses - expected) / np.abs(expected)
    return np.where(np.isfinite(difference), difference, np.inf).tolist()


def agree(losses, expected):
    """Whether two peers did the same, judged by their epochs' mean losses."""
    first, *later = disagreement(losses, expected)
    return first <= TOLERANCE and all(d <= 10 * TOLERANCE for d in later)


def peak_of(result):
    """GFLOP/s of all threads: the best of the rounds, since neighbours of a shared machine only take away."""
    return max(result["peak"]["all"])


def summarize(result):
    """The numbers of a compare() that tables and pictures show, as a dict.

    "peak" GFLOP/s of all threads; "peers": {name: {"us", "low", "high" (median and quartiles of the
    rounds, microseconds per step), "share" of the peak, "times" (how many times fastbp's time: the
    median of the ratios within each round)}}; "best": the fastest peer but NumPy and scikit-learn,
    or None; "errors": {name: text}.
    """
    peak = peak_of(result)
    found = {name: p for name, p in result["peers"].items() if p.get("us") and "error" not in p}
    ours = np.array(found["fastbp"]["us"])
    peers = {}
    for name, peer in found.items():
        low, middle, high = (float(q) for q in np.percentile(peer["us"], (25, 50, 75)))
        share = 1e6 * result["case"]["gflop"] / middle / peak
        times = float(np.median(np.array(peer["us"]) / ours))
        peers[name] = {"us": middle, "low": low, "high": high, "share": share, "times": times}
    rivals = [name for name in peers if name in ("torch", "torch.compile", "jax")]
    return {
        "peak": peak,
        "peers": peers,
        "best": min(rivals, key=lambda name: peers[name]["times"], default=None),
        "errors": {n: p["error"] for n, p in result["peers"].items() if "error" in p},
    }
