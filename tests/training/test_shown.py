"""What a person sees: objects as text and as tables, the bar of a fit, the note that it compiles."""

import html
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp import losses, optimizers, schedules
from fastbp.data.frames import Frame
from fastbp.engine import backend
from fastbp.kernels.cpu import program
from fastbp.preparation import Preparation

ROOT = Path(__file__).resolve().parents[2]
X, Y = np.eye(4, dtype=np.float32), np.arange(4)


def trainer(**options):
    return fb.Trainer(fb.MLP([4, 16, 4], seed=0), seed=0, **options)


# --- objects

SHOWN = {
    "optimizers": (
        [fb.Adam(), "Adam(lr=0.001)"],
        [fb.AdamW(0.1, (0.9, 0.9), weight_decay=0.1), "AdamW(lr=0.1, betas=(0.9, 0.9), weight_decay=0.1)"],
        [fb.SGD(0.1, momentum=0.9, nesterov=True), "SGD(lr=0.1, momentum=0.9, nesterov=True)"],
    ),
    "losses": (
        [losses.MSE(), "MSE()"],
        [losses.CrossEntropy(label_smoothing=0.1), "CrossEntropy(label_smoothing=0.1)"],
        [
            losses.CrossEntropy(class_weight=range(1, 100)),
            "CrossEntropy(class_weight=(1.0, 2.0, 3.0, ..., 99.0))",
        ],
    ),
    "schedules": (
        [schedules.Cosine(warmup=5), "Cosine(warmup=5)"],
        [schedules.MultiStep([3, 5]), "MultiStep(milestones=(3, 5))"],
    ),
    "callbacks": (
        [fb.EarlyStopping("loss", patience=3), "EarlyStopping(monitor='loss', patience=3)"],
        [fb.ModelCheckpoint("a.safetensors"), "ModelCheckpoint(filepath='a.safetensors')"],
        [fb.TerminateOnNaN(), "TerminateOnNaN()"],
    ),
    "net": (
        [fb.MLP([4, 2], dtype="float64"), "MLP([4, 2], dtype='float64')"],
        [fb.MLP([4, 8, 2], norm="layer"), "MLP([4, 8, 2], activation='relu', norm='layer', dtype='float32')"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHOWN)
def test_an_object_is_shown_as_the_call_that_makes_it(kind):
    for thing, text in SHOWN[kind]:
        assert repr(thing) == text
        if "..." not in text:
            again = eval(text, vars(fb) | vars(losses) | vars(schedules))
            assert repr(again) == text
            if hasattr(thing, "config"):
                assert again.config() == thing.config()


def test_all_of_them_are():
    """Also those that have not been thought of here: of a class of its own, short, no addresses."""
    made = [kind() for kind in (*optimizers.OPTIMIZERS.values(),)]
    made += [kind() for kind in losses.LOSSES.values()]
    made += [schedules.schedule(n) for n in schedules.SCHEDULES if n not in ("step", "multistep")]

    class Mine(fb.Callback):
        def __init__(self, share, names=()):
            self.kept = share

    class Tuned(fb.Adam):
        pass

    made += [Mine(0.5), Tuned(0.01), fb.CSVLogger("log.csv"), fb.TensorBoard(), fb.ReduceLROnPlateau()]
    for thing in made:
        text = repr(thing)
        assert (
            re.fullmatch(rf"{type(thing).__name__}\(.*\)", text) and len(text) < 160 and " at 0x" not in text
        )


def test_a_trainer():
    options = {"loss": losses.MSE(), "batch_size": 2, "schedule": "cosine", "clip_norm": 1.0, "ema": 0.9}
    t = trainer(**options)
    assert repr(t) == (
        "Trainer(net=MLP([4, 16, 4], activation='relu', dtype='float32'), loss=MSE(), "
        "optimizer=Adam(lr=0.001), batch_size=2, device='cpu', seed=0, schedule=Cosine(), "
        "clip_norm=1.0, ema=0.9)"
    )
    again = eval(repr(t), vars(fb) | vars(losses) | vars(schedules))
    assert repr(again) == repr(t)
    t.fit(X, X, epochs=3)
    assert repr(t) == f"{again!r} after 6 steps, 3 epochs"
    cells = cells_of(t._repr_html_())
    assert ["clip norm", "1.0"] in cells and ["trained", "6 steps, 3 epochs"] in cells
    assert ["0", "4 -> 16", "relu", "80"] in cells  # the network's table too


def cells_of(text):
    """The rows of HTML tables, as lists of text; what is written is escaped."""
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.S)
    found = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows]
    return [[html.unescape(cell) for cell in row] for row in found]


def test_a_history():
    history = trainer().fit(X, Y, epochs=4, validation_data=(X, Y))
    assert re.match(r"History\(4 epochs; last: loss \d.*, val_accuracy ", repr(history))
    cells = cells_of(history._repr_html_())
    assert cells[0] == ["", "first", "last", "best", "in epoch"]
    losses_of = [f"{loss:.4g}" for loss in history.history["val_loss"]]
    (row,) = [row for row in cells if row[0] == "val_loss"]
    best = min(range(4), key=lambda k: history.history["val_loss"][k])
    assert row[1:] == [losses_of[0], losses_of[-1], losses_of[best], f"{best + 1}"]
    assert [row[3:] for row in cells if row[0] == "seconds"] == [["", ""]]
    assert repr(fb.History()) == "History(0 epochs)" and "<table>" in fb.History()._repr_html_()


def test_a_history_says_which_weights_were_kept():
    worse = fb.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(loss=[3.0, 1.0, 2.0, 4.0][epoch]))
    stopping = fb.EarlyStopping("loss", patience=2, restore_best_weights=True)
    history = trainer().fit(X, Y, epochs=9, callbacks=[worse, stopping])
    assert history.kept == stopping.best_epoch + 1 == 2
    assert repr(history).startswith(
        "History(4 epochs, the weights of epoch 2, stopped by callback; last: loss 4,"
    )
    assert trainer().fit(X, Y).kept is None


def test_a_diagnosis_and_an_explanation():
    t = fb.Trainer(fb.MLP([4, 16, 4], seed=0), optimizer=fb.Adam(1e-9), seed=0)
    diagnosis = t.diagnose(X, Y)
    lines = repr(diagnosis).splitlines()
    assert (
        lines[0].startswith("loss ")
        and lines[2].startswith("0: 4 -> 16")
        and lines[-1].startswith("! layer 1")
    )
    assert cells_of(diagnosis._repr_html_())[1][0] == "0: 4 -> 16"
    assert diagnosis._repr_html_().count("<li>") == len(diagnosis.warnings) == 2
    explained = t.explain(seconds=0.01)
    assert repr(explained) == str(explained) and repr(explained).startswith("4-16-4, batch 32: ")
    assert cells_of(explained._repr_html_())[1][0] == "gather"


def test_a_preparation():
    frame = Frame(["size", "town"], [np.array([1.0, 2.0, np.nan]), np.array(["Bonn", "<Kiel>", "Bonn"])])
    prepared = Preparation.fit(frame, classes=["no", "yes"], target="sold")
    text = repr(prepared)
    assert text.startswith("Preparation(columns 2, as 3 inputs; prepared ")
    assert "town: 2 categories" in text and "1 missing" in text
    assert text.endswith("; target sold; classes 2: no, yes)")
    cells = cells_of(prepared._repr_html_())
    assert ["columns", "2, as 3 inputs"] in cells and ["target", "sold"] in cells
    many = Preparation.fit(X, classes=list(range(100)))
    assert repr(many).endswith("; classes 100: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)")
    assert repr(Preparation(3)) == "Preparation(columns 3, as 3 inputs; prepared 3 numbers as they are)"
    t = trainer()
    t.preparation = prepared
    assert ["preparation", text] in cells_of(t._repr_html_()) and text not in repr(t)


# --- the bar


@pytest.fixture
def widget(monkeypatch):
    """tqdm.auto as a notebook has it: the bars that were made, with what they were told."""
    made = []

    class Bar:
        def __init__(self, total, **options):
            self.total, self.n, self.open, self.container = total, 0, True, object()
            made.append(self)

        def set_description_str(self, text, refresh):
            self.text = text

        def set_postfix_str(self, text, refresh):
            self.values = text

        def update(self, count):
            self.n += count

        def clear(self):
            pass

        def close(self):
            self.open = False

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return made


def notebook(monkeypatch):
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


def test_a_notebook_has_a_bar_though_its_stderr_is_no_terminal(widget, monkeypatch):
    trainer().fit(X, Y, epochs=2)
    assert not widget
    notebook(monkeypatch)
    trainer().fit(X, Y, epochs=2)
    trainer().fit(X, Y, epochs=2, verbose=0)
    (bar,) = widget
    assert (bar.total, bar.n, bar.text, bar.open) == (8, 8, "epoch 2/2", False) and "accuracy" in bar.values


def test_the_bar_ends_with_what_was_done_last(widget):
    """However short the fit: what is drawn ten times a second is not where it stops."""
    stop = fb.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(t, "stop_training", epoch == 4))
    t = trainer()
    history = t.fit(X, Y, epochs=100, callbacks=stop, verbose=1)
    (bar,) = widget
    assert bar.text == "epoch 5/100" and f"loss {history.history['loss'][-1]:.4f}" in bar.values
    assert bar.n == bar.total == 20  # a widget below its total is red, as for an error


def test_an_error_leaves_the_bar_where_it_was(widget):
    def fail(epoch, logs):
        raise OSError

    with pytest.raises(OSError):
        trainer().fit(X, Y, epochs=100, callbacks=fb.LambdaCallback(on_epoch_end=fail), verbose=1)
    assert widget[0].n == 4 and widget[0].total == 400 and not widget[0].open


def test_a_notebook_without_ipywidgets_gets_text_and_no_warning():
    code = (
        "import sys, types; shell = types.SimpleNamespace(config={'IPKernelApp': {}})\n"
        "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: shell)\n"
        "sys.modules['ipywidgets'] = None\n"
        "import numpy as np, fastbp as fb\n"
        "fb.Trainer(fb.MLP([4, 4], seed=0)).fit(np.eye(4), np.arange(4), epochs=3)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 3/3: 100%" in done.stderr and "arning" not in done.stderr


# --- compiling


@pytest.fixture
def cold(monkeypatch):
    """A process that has loaded no program yet; what is on the disk is as told."""

    def begin(there):
        monkeypatch.setattr(backend, "_seconds", {})
        monkeypatch.setattr(program, "compiled", lambda dtype: there)

    return begin


NOTE = "fastbp: compiling for this machine, once: some 10 to 20 s ...\n"


def test_it_says_that_it_compiles_once(cold, capfd):
    cold(there=False)
    for _ in range(2):
        t = trainer()
        t.fit(X, Y)
        t.predict(X)
    assert capfd.readouterr() == ("", NOTE)
    cold(there=True)
    trainer().fit(X, Y)
    assert capfd.readouterr() == ("", "")


def test_who_waits_for_another_process_does_not_say_that_he_compiles(cold, capfd, tmp_path, monkeypatch):
    """What has the lock compiles; here another open file of it stands for another process."""
    from fastbp.kernels import disk, jit

    monkeypatch.setattr(jit, "cache_path", lambda dispatcher: tmp_path)
    cold(there=False)
    with open(tmp_path / "compiling.lock", "ab") as theirs:
        assert disk._locked(theirs)
        trainer().fit(X, Y)
    assert capfd.readouterr().err == (
        "fastbp: waiting for another process, which compiles for this machine: some 10 to 20 s ...\n"
    )
    cold(there=False)
    trainer().fit(X, Y)
    assert capfd.readouterr().err == NOTE and not disk.busy(tmp_path) and not disk.busy(tmp_path / "none")


@pytest.mark.parametrize("use", ["predict", "evaluate", "gradients", "train_on_batch"])
def test_so_does_whatever_comes_first(use, cold, capfd):
    cold(there=False)
    getattr(trainer(), use)(*((X,) if use == "predict" else (X, Y)))
    assert capfd.readouterr().err == NOTE


def test_who_wants_quiet_has_it(cold, capfd):
    cold(there=False)
    t = trainer()
    t.fit(X, Y, verbose=0)
    t.evaluate(X, Y)
    cold(there=False)
    trainer().fit(lambda: iter([(X, Y)]), verbose=0)
    assert capfd.readouterr().err == ""
    cold(there=False)
    trainer().fit(lambda: iter([(X, Y)]))
    assert capfd.readouterr().err == NOTE


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_an_estimator_says_it_where_it_is_to_say_something(cold, capfd):
    sklearn = pytest.importorskip("fastbp.sklearn")
    for verbose in (False, True):
        cold(there=False)
        sklearn.MLPClassifier((4,), max_iter=1, random_state=0, verbose=verbose).fit(X, Y)
        assert capfd.readouterr().err.count(NOTE) == verbose


def test_without_a_folder_for_machine_code_it_says_so(cold, capfd):
    cold(there=None)
    trainer().fit(X, Y)
    assert (
        "compiling for this machine, in each process, as no folder for machine code" in capfd.readouterr().err
    )


def test_arguments_are_checked_before_it_compiles(cold, capfd):
    cold(there=False)
    with pytest.raises(ValueError, match="epochs"):
        trainer().fit(X, Y, epochs=-1)
    assert capfd.readouterr().err == ""
