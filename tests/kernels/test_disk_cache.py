"""Machine code on disk: damaged files, full disks, read-only folders, many processes, kills, forks.

A small program of jit.program's stands for the big one, whose cache is the same.
"""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastbp as fb

ROOT = Path(fb.__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, limits and forks of POSIX")

# prints what is compiled, then 41 + 1; "slow" compiles for so many seconds, the other words do as they say
SMALL = """
import os, resource, signal, sys, threading, time
from numba import types
from numba.core import event
from fastbp.kernels import disk, jit

class Listener(event.Listener):
    def on_start(self, event):
        print("compiled", flush=True)
    def on_end(self, event):
        pass
event.register("numba:compile", Listener())

@jit.program()
def more(x):
    return x + 1

signature = (types.int64,)
if "limit" in sys.argv:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
if "read-only" in sys.argv:
    import builtins, errno
    real = open
    def refusing(name, mode="r", *more, **options):
        if "r" not in mode:
            raise OSError(errno.EROFS, "Read-only file system", name)
        return real(name, mode, *more, **options)
    builtins.open = refusing

def compile_it():
    with jit.compiling(more, signature) as anew:
        if anew and "slow" in sys.argv:
            print("begun", flush=True)
            time.sleep(float(sys.argv[sys.argv.index("slow") + 1]))
        more.compile(signature)

if "fork" in sys.argv:
    thread = threading.Thread(target=compile_it)
    thread.start()
    time.sleep(0.5)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        compile_it()
        os._exit(0 if more(41) == 42 else 3)
    thread.join()
    print("child", os.waitpid(child, 0)[1])
compile_it()
print(more(41), jit.cache_path(more))
"""


@pytest.fixture
def small(tmp_path):
    """small(*arguments) -> a process that runs SMALL; its cache is tmp_path / "cache"."""
    (tmp_path / "small.py").write_text(SMALL)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    started = []

    def start(*arguments):
        command = [sys.executable, "-W", "error", tmp_path / "small.py", *map(str, arguments)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True))  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process):
    """The lines that it said before the result, which is right."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and not error, error
    *lines, result = out.splitlines()
    assert result.startswith("42 ")
    return lines


def files(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".nbi", ".nbc")]


DAMAGE = """
import glob, random
[index], [data] = (glob.glob(f"{jit.cache_path(more)}/*.{kind}") for kind in ("nbi", "nbc"))
for path in (index, data):
    with open(path, "rb") as file:
        content = file.read()
    flipped = bytearray(content)
    flipped[random.randrange(len(content))] ^= 1 << random.randrange(8)
    half = content[: len(content) // 2]
    for damaged in (b"", content[:20], half, random.randbytes(5000), bytes(flipped), None):
        if damaged is None:
            os.unlink(path)
        else:
            with open(path, "wb") as file:
                file.write(damaged)
        for what in ("damaged", "mended"):
            print(what, flush=True)
            again = jit.program()(more.py_func)
            again.compile(signature)
            assert again(41) == 42
"""


def test_a_damaged_file_is_compiled_anew_and_mended(small, tmp_path):
    """Emptied, cut off, other bytes, one bit, absent: of the index and of the code."""
    small_source = tmp_path / "small.py"
    small_source.write_text(SMALL + DAMAGE)
    process = small()
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0 and not error, error
    said = out.splitlines()
    assert said[0] == "compiled" and said[2:] == ["damaged", "compiled", "mended"] * 12
    assert len(files(tmp_path)) == 2


@posix
@pytest.mark.parametrize("trouble", ["limit", "read-only"])
def test_where_nothing_can_be_written_it_is_compiled_and_not_kept(small, tmp_path, trouble):
    """The disk gets full, or the folder read-only, after the process began."""
    assert end(small(trouble)) == ["compiled"]
    assert not [path for path in files(tmp_path) if path.suffix == ".nbc"]
    assert end(small(trouble)) == ["compiled"]
    assert end(small()) == ["compiled"]
    assert end(small(trouble)) == []  # it can be read


def test_of_several_processes_one_compiles_and_the_others_wait(small):
    processes = [small("slow", 2) for _ in range(4)]
    said = [end(process) for process in processes]
    assert sorted(said) == [[], [], [], ["begun", "compiled"]]


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_first_is_killed_the_next_one_compiles(small, number):
    first = small("slow", 60)
    assert first.stdout.readline() == "begun\n"
    others = [small("slow", 0.1) for _ in range(2)]
    time.sleep(0.5)
    first.send_signal(number)
    began = time.monotonic()
    assert sorted(end(process) for process in others) == [[], ["begun", "compiled"]]
    assert time.monotonic() - began < 50


@posix
def test_when_the_first_hangs_the_others_go_on(small, tmp_path):
    source = (tmp_path / "small.py").read_text()
    (tmp_path / "small.py").write_text(source.replace("signature =", "disk.WAIT_SECONDS = 1\nsignature ="))
    first = small("slow", 60)
    assert first.stdout.readline() == "begun\n"
    first.send_signal(signal.SIGSTOP)
    assert end(small()) == ["compiled"]


@posix
def test_a_fork_waits_until_what_another_thread_compiles_is_done(small):
    """A child has no other threads; the compiler's locks would stay locked in it."""
    lines = end(small("fork", "slow", 2))
    assert sorted(lines) == ["begun", "child 0", "compiled"]


def test_what_killed_processes_left_is_removed(small, tmp_path):
    assert end(small()) == ["compiled"]
    index = next(path for path in files(tmp_path) if path.suffix == ".nbi")
    old, fresh = (index.with_name(f"{index.name}.tmp.{n:016x}") for n in (1, 2))
    old.write_bytes(b"half"), fresh.write_bytes(b"half")
    os.utime(old, (0, 0))
    index.unlink()
    assert end(small()) == ["compiled"]
    assert fresh.exists() and not old.exists()
    assert stat.S_ISREG(index.stat().st_mode)
