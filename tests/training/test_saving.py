"""Files are written whole or not at all: full disks, read-only folders, links, modes, signals, kills."""

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import kills
import numpy as np
import pytest

import fastbp as fb
from fastbp import writing

ROOT = Path(fb.__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="needs links, modes and signals of POSIX")
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


@pytest.fixture
def trainer():
    return fb.Trainer(fb.MLP([4, 30, 3], seed=0), seed=0)


def ways(trainer, folder):
    """{file name: what writes it} of everything that a trainer writes at once."""
    history = fb.engine.history.History()
    history.append(loss=0.5, seconds=1.0)
    found = {"m.safetensors": trainer.save, "m.c": trainer.to_c}
    for package, name, write in (("onnx", "m.onnx", trainer.to_onnx), ("matplotlib", "m.png", history.plot)):
        if __import__("importlib").util.find_spec(package):
            found[name] = write
    return {folder / name: write for name, write in found.items()}


def test_every_file_is_written_whole_or_not_at_all(trainer, tmp_path, monkeypatch):
    """The disk is full when the last byte is flushed: nothing is there, or what was there before."""

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    for path, write in ways(trainer, tmp_path).items():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left") as caught:
                write(path)
            assert caught.value.filename == str(path) and caught.value.errno == errno.ENOSPC
            assert not os.listdir(tmp_path)
        write(path)
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match=path.name):
                write(path)
        assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]
        path.unlink()


LIMITED = """
import os, resource, signal, sys
import fastbp as fb
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
trainer = fb.Trainer(fb.MLP([50, 400, 2], seed=0), seed=0)
history = fb.engine.history.History()
history.append(loss=0.5, seconds=1.0)
if "plot" in sys.argv:
    history.plot("warm.svg")
    os.unlink("warm.svg")
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
ways = {"m.safetensors": trainer.save, "m.c": trainer.to_c, "m.onnx": trainer.to_onnx, "m.svg": history.plot}
for name, write in ways.items():
    try:
        write(name)
        print(name, "written")
    except (OSError, ImportError) as error:
        print(name, error)
print(os.listdir())
"""


@posix
def test_a_limit_on_files_is_named_and_leaves_nothing(tmp_path):
    """Real writes that stop in the middle."""
    pytest.importorskip("onnx"), pytest.importorskip("matplotlib")
    said = run(LIMITED, tmp_path, "plot").splitlines()
    names = ["m.safetensors", "m.c", "m.onnx", "m.svg"]
    assert said == [*(f"{n} [Errno 27] File too large: '{n}'" for n in names), "[]"]


def run(code, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_full
def test_what_is_no_file_is_written_as_it_comes(trainer, tmp_path):
    """A device stays what it is; a pipe gets what is written."""
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        trainer.save("/dev/full")
    trainer.to_c("/dev/null")
    assert not stat.S_ISREG(os.stat("/dev/full").st_mode) and not stat.S_ISREG(os.stat("/dev/null").st_mode)
    text = run("import fastbp as fb; fb.Trainer(fb.MLP([2, 2], seed=0)).to_c('/dev/stdout')", tmp_path)
    assert "void predict(const float *x, float *y)" in text


@posix
def test_links_stay_links_and_modes_stay(trainer, tmp_path):
    real, link = tmp_path / "deep" / "real.safetensors", tmp_path / "link.safetensors"
    real.parent.mkdir()
    link.symlink_to(Path("deep") / "real.safetensors")
    trainer.save(link)  # it pointed to nothing
    assert link.is_symlink() and stat.S_ISREG(os.lstat(real).st_mode)
    for mode in (0o600, 0o640, 0o664):
        real.chmod(mode)
        trainer.steps += 1
        trainer.save(link)
        assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == mode
        assert fb.load(real).steps == trainer.steps
    mask = os.umask(0o027)
    try:
        trainer.save(tmp_path / "new.safetensors")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new.safetensors").stat().st_mode) == 0o640


@posix
def test_errors_name_the_target(trainer, tmp_path):
    (tmp_path / "folder").mkdir()
    kept = tmp_path / "kept.safetensors"
    trainer.save(kept)
    before = kept.read_bytes()
    for path, error in [
        (tmp_path / "folder", IsADirectoryError), (tmp_path / "no" / "such", FileNotFoundError),
        (kept / "below", NotADirectoryError), (tmp_path / ("x" * 300), OSError), ("", FileNotFoundError),
        (f"{tmp_path}/new/", IsADirectoryError),
    ]:  # fmt: skip
        with pytest.raises(error) as caught:
            trainer.save(path)
        assert caught.value.filename == str(path)
    for path, error in [(7, TypeError), (f"{tmp_path}/a\0b", ValueError)]:
        with pytest.raises(error):
            trainer.save(path)
    trainer.save(os.fsencode(tmp_path / "bytes.safetensors"))
    assert fb.load(os.fsencode(tmp_path / "bytes.safetensors")).steps == 0
    assert sorted(os.listdir(tmp_path)) == ["bytes.safetensors", "folder", "kept.safetensors"]
    assert kept.read_bytes() == before and not os.listdir(tmp_path / "folder")


@posix
def test_a_file_that_may_not_be_written_stays(trainer, tmp_path, monkeypatch):
    """A rename would not ask. Also in a folder that is read-only; root may do both, so os says no here."""
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    before = path.read_bytes()
    trainer.steps = 7
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda name, how: False)
        with pytest.raises(PermissionError, match="m.safetensors"):
            trainer.save(path)
    real = os.open

    def read_only(name, flags, *mode, **options):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", name)
        return real(name, flags, *mode, **options)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(OSError, match="Read-only file system: .*m.safetensors'"):
        trainer.save(path)
    assert path.read_bytes() == before


@posix
@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_around_the_rename_stays_ctrl_c(trainer, tmp_path, monkeypatch, when):
    path, real = tmp_path / "m.safetensors", os.replace
    trainer.save(path)
    trainer.steps = 5

    def interrupted(*names):
        if when == "after":
            real(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert fb.load(path).steps == (5 if when == "after" else 0)


@posix
def test_leftovers_of_killed_saves_go_and_those_of_running_ones_stay(trainer, tmp_path):
    dead, other = tmp_path / f".fastbp-{'0' * 16}.tmp", tmp_path / ".fastbp-mine"
    dead.write_bytes(b"half"), other.write_text("a user's")
    with writing.written(tmp_path / "slow") as file:
        (running,) = {name for name in os.listdir(tmp_path) if name.endswith(".tmp")}
        file.write(b"whole")
        trainer.save(tmp_path / "m.safetensors")
        assert (tmp_path / running).exists() and not dead.exists()
    assert sorted(os.listdir(tmp_path)) == [".fastbp-mine", "m.safetensors", "slow"]
    assert (tmp_path / "slow").read_bytes() == b"whole"


SAVING = """
import fastbp as fb
trainer = fb.Trainer(fb.MLP([50, 400, 50], seed=0), seed=0)
print("ready", flush=True)
while True:
    trainer.steps += 1
    trainer.save("m.safetensors")
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_at_any_moment_a_whole_model_is_there(rng, tmp_path, number):
    """A process that saves all the time."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    steps = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-P", "-c", SAVING], cwd=tmp_path, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
        assert process.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.05, 0.2))
        process.send_signal(number)
        process.wait(60)
        process.stdout.close()
        steps += fb.load(tmp_path / "m.safetensors").steps
        assert len(os.listdir(tmp_path)) <= 2
    assert steps >= 4  # each has saved before it was killed
    fb.load(tmp_path / "m.safetensors").save(tmp_path / "m.safetensors")
    assert os.listdir(tmp_path) == ["m.safetensors"]


@posix
@pytest.mark.parametrize("number", kills.SIGNALS)
def test_training_goes_on_from_what_killed_processes_left(tmp_path, number):
    """To the bits of one that nobody killed; the short form of `python tests/support/kills.py`."""
    (tmp_path / "whole").mkdir()
    wanted, _ = kills.end(kills.start(tmp_path / "whole"))
    digest, _ = kills.train(tmp_path / "killed", number, random.Random())
    assert digest == wanted


# --- logs, which grow


def test_a_log_has_whole_lines_only(tmp_path, monkeypatch):
    """Of a line that does not fit nothing is there, and the next one stands on its own."""
    path = tmp_path / "log.csv"
    writing.append(path, b"a,b\n")
    room = [2]

    class Short:
        """A disk that takes two bytes more."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            room[0] -= 2
            return self.file.write(data[:2])

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *a, _open=open, **k: Short(_open(*a, **k)))
        with pytest.raises(OSError, match="No space left on device: .*log.csv'"):
            writing.append(path, b"1,2\n")
    assert path.read_bytes() == b"a,b\n"
    writing.append(path, b"3,4\n")
    assert path.read_bytes() == b"a,b\n3,4\n"


def test_names_with_the_separator_are_quoted_in_a_log(rng, trainer, tmp_path):
    import csv

    def scored(y, prediction):
        return 0.5

    scored.__name__ = 'a,"b"'
    X, y = rng.standard_normal((9, 4)), np.arange(9) % 3
    path = tmp_path / "log.csv"
    for append in (False, True):
        trainer.fit(X, y, metrics=[scored], callbacks=[fb.CSVLogger(path, append=append)])
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["epoch", "loss", "accuracy", 'a,"b"', "seconds"]
    assert [row[3] for row in rows] == ["0.5", "0.5"]
