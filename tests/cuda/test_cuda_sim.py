"""The GPU's own parts in numba's simulator: graphs, parts of a batch, feeding, races, errors.

Skipped in the ordinary run, since the simulator has to be chosen before numba is imported; see
test_devices.py for the command.
"""

import os
import signal

import harness as h
import numpy as np
import pytest

import fastbp as fb
from fastbp.engine import backend, devices
from fastbp.kernels import codes, tables

if not int(os.environ.get("NUMBA_ENABLE_CUDASIM") or 0):
    pytest.skip("takes NUMBA_ENABLE_CUDASIM=1 and a run of its own", allow_module_level=True)

import simulator
from numba import cuda

from fastbp.kernels.cuda import dense, plan, program


@pytest.fixture(params=h.DTYPES)
def dtype(request):
    return np.dtype(request.param)


@pytest.mark.parametrize("streamed", [False, True])
def test_graphs_replay_what_was_recorded(rng, monkeypatch, streamed):
    """A stand-in launches again what it was given when it was recorded, with the arrays of then.

    The same bits as step by step. Recorded once for all epochs, or for each buffer of pieces; for few steps
    never.
    """
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    from fastbp.engine import gpu
    from fastbp.kernels.cuda import data

    X, y = rng.standard_normal((38, 3)).astype("f4"), rng.integers(0, 2, 38)
    found, recorded, replayed, configured = [], [], [], FakeCUDAKernel.__getitem__

    def configure(kernel, configuration):
        if isinstance(configuration[-1], list):  # in place of a stream that is captured
            grid, threads, graph = configuration
            return lambda *arguments: graph.append((kernel, grid, threads, arguments))
        return configured(kernel, configuration)

    def record(launch):
        graph = []
        launch(graph)
        recorded.append(len(graph))

        def replay(stream):
            replayed.append(graph)
            for kernel, grid, threads, arguments in graph:
                kernel[grid, threads, stream](*arguments)

        return replay

    monkeypatch.setattr(FakeCUDAKernel, "__getitem__", configure)
    monkeypatch.setattr(program, "REPLAYED", 3)
    monkeypatch.setattr(program, "FEWEST_RECORDED", 2)
    monkeypatch.setattr(gpu, "WINDOW", 1e3)
    if streamed:
        monkeypatch.setattr(data, "room", lambda: 0)
        monkeypatch.setattr(data, "PIECE", 5 * 4 * X[:1].nbytes)
    for graphs in (False, True):
        if graphs:
            monkeypatch.setattr(program, "record", record)
        net = fb.MLP([3, 4, 2], seed=0)
        trainer = fb.Trainer(net, batch_size=4, seed=1, device="cuda", schedule=lambda k: 0.1 / (1 + k))
        history = trainer.fit(X, y, epochs=2).history["loss"]
        found.append([*net.params, *history, *trainer.evaluate(X[:8], y[:8]).values()])
    assert np.array_equal(*found)
    buffers = 2 if streamed else 1
    assert recorded.count(3 * 7) == buffers and 1 <= recorded.count(7) <= buffers
    assert {len(graph) for graph in replayed} == {7, 3 * 7}


def test_a_window_of_more_updates_than_there_is_room_for(rng, monkeypatch):
    """Their constants then lie in a larger array, and the sums so far go there too."""
    X, y, found = rng.standard_normal((14, 3)), rng.integers(0, 2, 14), []
    for known in (1, 4096):
        monkeypatch.setattr(program, "KNOWN_UPDATES", known)
        net = fb.MLP([3, 4, 2], seed=0)
        trainer = fb.Trainer(net, batch_size=2, seed=1, device="cuda", schedule=lambda k: 0.1 / (1 + k))
        found.append([*trainer.fit(X, y).history["loss"], *net.params])
    assert np.array_equal(*found)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"batch_size": 16}])
def test_explain(monkeypatch, options):
    """The CPU's table and what a GPU adds to it; the times are the simulator's own."""
    from fastbp import explain

    monkeypatch.setattr(explain, "STEPS", 2)
    parts = "batch_size" in options
    sizes, batch = ([3, 4], 16) if parts else ([3, 9, 4, 2], 6)
    trainer = fb.Trainer(fb.MLP(sizes, seed=0), device="cuda", **{"batch_size": batch, **options})
    before, slots = trainer.net.params.copy(), trainer.slots.copy()
    report = trainer.explain(seconds=1e-9)
    assert np.array_equal(trainer.net.params, before) and trainer.steps == 0
    assert np.array_equal(trainer.slots, slots) and not trainer._sessions
    rows = {row.name: row for row in report.rows}
    assert list(rows)[:2] == ["gather", "layer 0 forward"] and "layer 0 dX" not in rows
    assert ("clip" in rows) == ("clip_norm" in options) and {"loss", "close_loss"} <= set(rows)
    assert all(row.seconds > 0 for row in report.rows) and report.seconds > 0 and report.peak > 0
    products = [i * o for i, o in zip(sizes, sizes[1:], strict=False)]
    assert report.flops == 2 * batch * (3 * sum(products) - products[0])
    cpu = fb.Trainer(fb.MLP(sizes, seed=0), device="cpu", **{"batch_size": batch, **options})
    for twin in cpu.explain(seconds=0.01).rows:
        if twin.name.endswith(("forward", "dX")):
            assert (twin.flops, twin.bytes) == (rows[twin.name].flops, rows[twin.name].bytes)
    assert rows["gather"].bytes == 4 * batch * 3 and rows["gather"].grid == (batch, 1)
    one, update = rows["layer 0 forward"], rows["dW + update"]
    tile = dense.TILES[4][one.kernel.rpartition("_")[2]]
    assert one.grid == (-(-batch // tile.rows), -(-sizes[1] // tile.columns)) and one.threads == tile.threads
    assert update.grid[1] == (2 if parts else 1) and ("in 2 parts" in update.why) == parts
    assert ("apply" in rows) == (parts or "clip_norm" in options)
    text = str(report)
    for part in ("us a step", "of peak", "-".join(map(str, sizes)), update.kernel, one.why, "simulated"):
        assert part in text


def test_why_a_tile_was_chosen():
    made = [program.Launch("dense_forward", (1, 1), 1, (), 0, ((rows, 8),)) for rows in (64, 8)]
    wide, small = (program.why(4, one) for one in made)
    assert wide == "wide 16 x 4: 8 blocks, 4 or more"
    assert small == "small 4 x 4: 4 blocks; middle would make 1, below 4"
    assert program.why(4, program.Launch("gather", 3, 4, ())) == ""


EVERYTHING = dict(dropout=[0.2, 0.0, 0.5], input_dropout=0.1, norm=["layer", None, "batch"],
                  residual=[False, True, True], embeddings={0: (5, 7), 2: (3, 2)})  # fmt: skip
LIMITS = dict(clip_layer_norm=0.05, max_norm=0.9, ema=0.9, lr_factors=(1, 2, 1, 1))
ACCUMULATED = dict(accumulate=2, clip_norm=0.1)
RACES = {
    "plain": ({}, "cross_entropy", {}),
    "limits": (EVERYTHING, "mse", LIMITS),
    "accumulated": (dict(activation="prelu", norm="batch"), "gaussian_nll", ACCUMULATED),
}


@pytest.mark.parametrize("case", RACES)
def test_no_races_in_global_memory(rng, case):
    """A step and a prediction: nobody reads what another thread writes in the same launch."""
    network, loss, options = RACES[case]
    X, y = rng.integers(0, 3, (17, 4)).astype("f4"), rng.integers(0, 4, 17)
    y = rng.standard_normal((17, 2 if loss == "gaussian_nll" else 4)) if loss != "cross_entropy" else y
    sizes = [4, 5, 5, 5, 4] if network else [4, 4]  # so small that the batch is cut into parts
    net = fb.MLP(sizes, **{"activation": "gelu", **network}, seed=0)
    trainer = fb.Trainer(net, loss, batch_size=17, device="cuda", **options)
    with simulator.racecheck() as seen:
        trainer.fit(X, y, sample_weight=rng.uniform(1, 2, 17))
        trainer.predict(X[:5])
    assert {"loss", "link", "close_loss"} <= set(seen)
    assert (trainer._sessions["train"]._run.parts > 1) == (not network)


def test_a_race_in_global_memory_is_seen():
    @cuda.jit
    def shifted(out):
        out[cuda.threadIdx.x] = out[cuda.threadIdx.x + 1]

    with program.quiet(), simulator.racecheck(), pytest.raises(simulator.Race, match="shifted: argument 0"):
        shifted[1, 3](cuda.to_device(np.zeros(4)))


def test_barriers_that_some_threads_miss_are_seen():
    @cuda.jit
    def half(out):
        if cuda.threadIdx.x < 2:
            cuda.syncthreads()

    with program.quiet(), pytest.raises(AssertionError, match="half: threads of a block meet"):
        half[1, 4](cuda.to_device(np.zeros(4)))


def test_grids_as_the_card_gets_them(rng, monkeypatch):
    """Simulated grids are cut short, so the sizes and places that a launch is given were never looked at."""
    monkeypatch.setattr(program, "PASS_BLOCKS", 1024)
    X, y = rng.standard_normal((16, 3)).astype("f4"), rng.integers(0, 2, 16)
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0), batch_size=16, ema=0.9, device="cuda")
    trainer.fit(X, y)
    run = trainer._sessions["train"]._run
    assert run.parts > 1 and type(run.spare) is int
    trainer.net.freeze(0)  # diagnose runs a step: no weight tiles, so no grid of none
    assert len(trainer.diagnose(X, y).layers) == 1


def test_a_forked_child_is_told_to_be_spawned(rng):
    X = rng.standard_normal((5, 3))
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0), device="cuda")
    trainer.predict(X)
    with trainer.turns.state:  # another thread's, say
        child = os.fork()
        if child == 0:
            code = 1
            try:
                trainer.predict(X)
            except RuntimeError as error:
                code = 0 if "spawn" in str(error) else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_memory_that_numba_keeps_counts_as_free(monkeypatch):
    from types import SimpleNamespace

    from fastbp.kernels.cuda import data

    kept = [700]
    context = SimpleNamespace(
        get_memory_info=lambda: (1000 - sum(kept), 1000),
        memory_manager=SimpleNamespace(deallocations=kept),
    )
    monkeypatch.setattr(data, "SIMULATED", False)
    monkeypatch.setattr(data, "cuda", SimpleNamespace(current_context=lambda: context))
    assert data.room() == data.ROOM * 1000


def test_same_bits_again(rng):
    X, y = rng.standard_normal((40, 3)).astype("f4"), rng.integers(0, 2, 40)
    results = []
    for _ in range(2):
        net = fb.MLP([3, 5, 2], "gelu", seed=0)
        fb.Trainer(net, batch_size=20, seed=1, device="cuda", clip_norm=0.1).fit(X, y)
        results.append(net.params)
    assert np.array_equal(*results)


def test_a_rows_prediction_does_not_depend_on_its_batch(rng):
    net = fb.MLP([3, 9, 2], seed=0)
    trainer = fb.Trainer(net, device="cuda")
    X = rng.standard_normal((9, 3)).astype("f4")
    whole = trainer.predict(X)
    for rows in (1, 5):
        assert np.array_equal(trainer.predict(X[:rows]), whole[:rows])


def launched(net, options, mode=codes.TRAIN):
    """Names of the kernels of a step."""
    trainer = fb.Trainer(net, batch_size=4, device="cuda", **options)
    trainer.fit(np.ones((4, 3), "f4"), [0, 1, 0, 1])
    run = trainer._sessions["train"]._run
    run.bind(np.ones((4, 3), "f4"), np.zeros((4, 1), "i4"), None, None)
    return [name for name, *_ in run.first() + run.second()]


def test_launches_of_a_step():
    """2 L + 3 for L layers, whatever the network: what a graph replays."""
    for sizes in ([3, 5, 2], [3, 4, 4, 4, 2]):
        assert len(launched(fb.MLP(sizes, seed=0), {})) == 2 * (len(sizes) - 1) + 3


@pytest.mark.parametrize(
    "network,options,more",
    [
        (dict(dropout=[0.5, 0]), {}, ["finish_layer", "finish_delta"]),
        (dict(input_dropout=0.5), {}, ["drop_inputs"]),
        (dict(norm=["layer", None]), {}, ["finish_layer", "finish_delta", "vector_update"]),
        (dict(residual=[False, True]), {}, ["finish_layer", "finish_delta"] * 2),
        (dict(activation=["prelu", "relu"]), {}, ["finish_layer", "finish_delta", "vector_update"]),
        ({}, dict(ema=0.9), ["average"]),
        ({}, dict(max_norm=1.0), ["constrain"]),
        ({}, dict(lr_factors=(1, 0.5, 1)), ["layer_constants"]),
        ({}, dict(accumulate=2), ["apply"]),
        ({}, dict(clip_norm=1.0), ["square_norm", "clip", "apply"]),
    ],
)
def test_who_asks_for_more_launches_more(network, options, more):
    plain, found = (launched(fb.MLP([3, 4, 4, 2], seed=0, **n), o) for n, o in (({}, {}), (network, options)))
    for name in plain:
        found.remove(name)
    assert sorted(found) == sorted(more)


def test_ctrl_c_counts_the_steps_that_were_made(rng, monkeypatch):
    X, y = rng.standard_normal((24, 3)).astype("f4"), rng.integers(0, 2, 24)
    trainer, other = (
        fb.Trainer(fb.MLP([3, 4, 2], seed=0), batch_size=4, seed=1, device="cuda") for _ in range(2)
    )
    read, calls = program.Run.read, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return read(self)

    monkeypatch.setattr(program.Run, "read", interrupted)
    assert trainer.fit(X, y).stopped == "Ctrl-C"
    monkeypatch.undo()
    assert 1 < trainer.steps < 6
    order = trainer._sessions["train"].order[: 4 * trainer.steps]
    other.fit(X[order], y[order], shuffle=False)
    assert np.array_equal(trainer.net.params, other.net.params)


def test_ctrl_c_between_two_launches_waits_for_the_step(rng, monkeypatch):
    """A step that is counted is made: the weights are those of as many. A second Ctrl-C is heard at once."""
    X, y = rng.standard_normal((24, 3)).astype("f4"), rng.integers(0, 2, 24)
    trainer, other = (
        fb.Trainer(fb.MLP([3, 4, 2], seed=0), batch_size=4, seed=1, device="cuda") for _ in range(2)
    )
    close, calls = program.load(np.dtype("f4"))["close_loss"], []

    class Interrupted:
        def __getitem__(self, configuration):
            calls.append(1)
            if len(calls) == 3:
                signal.raise_signal(signal.SIGINT)
            return close[configuration]

    trainer._session("train", 4)._run.kernels["close_loss"] = Interrupted()
    assert trainer.fit(X, y, shuffle=False).stopped == "Ctrl-C" and trainer.steps >= 3
    rows = 4 * trainer.steps
    other.fit(X[:rows], y[:rows], shuffle=False)
    assert np.array_equal(trainer.net.params, other.net.params)
    with pytest.raises(KeyboardInterrupt, match="^$"), program.whole_steps():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("not heard")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_the_backend_says():
    assert devices.device("cuda") == "cuda" and devices.device("auto") == "cpu"
    assert "simulated" in backend.gpu_info()["gpu"]


def test_the_gpu_benchmark(capsys, tmp_path):
    """Its correctness part, tiny, and the page made of it; the timings need a GPU."""
    import json

    from bench.gpu import card

    assert card.main(["--short", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["correctness"]["checks"] >= 10 and not content["correctness"]["failed"]
    assert "all right" in capsys.readouterr().out
    content["timings"] = {"tiny": {"fastbp": {"us": 20.0, "spread": [19, 22], "loss": 0.5},
                                   "jax": {"error": "no GPU"}}}  # fmt: skip
    content["ceilings"] = {"fma": 60.0, "copy": 4000.0, "tensor": None}
    text = card.page(content)
    assert "20.0" in text and "tiny, jax: no GPU" in text and "60.0 TFLOP/s" in text
    card.picture(content, tmp_path / "gpu.png")
    assert (tmp_path / "gpu.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["f4", "u1", "?"])
def test_data_larger_than_the_memory_is_streamed(rng, monkeypatch, kind):
    """Pieces of two steps, shuffled and weighted: the same bits as with everything on the device."""
    from fastbp.kernels.cuda import data

    X, y = rng.integers(0, 2, (27, 3)).astype(kind), rng.integers(0, 2, 27)
    weight = rng.uniform(0.5, 2, 27)
    results, brought = [], []
    bring = data.Streamed._bring
    monkeypatch.setattr(data.Streamed, "_bring", lambda self, *a: brought.append(a) or bring(self, *a))
    for streamed in (False, True):
        if streamed:
            assert not brought
            monkeypatch.setattr(data, "room", lambda: 0)
            monkeypatch.setattr(data, "PIECE", 2 * 4 * X[:1].nbytes)
        net = fb.MLP([3, 4, 2], seed=0)
        trainer = fb.Trainer(net, batch_size=4, seed=1, device="cuda")
        history = trainer.fit(X, y, epochs=2, sample_weight=weight)
        monkeypatch.setattr(data, "PIECE", 6 * X[:1].nbytes)  # of less than a batch to evaluate
        results.append((net.params, history.history["loss"], trainer.evaluate(X, y, weight)))
    assert len(brought) >= 2 * 4 + 1  # seven steps an epoch, two at a time; one batch to evaluate
    assert np.array_equal(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_out_of_memory_says_how_much_and_what_to_lower(monkeypatch):
    from types import SimpleNamespace

    from fastbp.kernels.cuda import data

    def full(*args):
        raise RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in ...")

    context = SimpleNamespace(get_memory_info=lambda: (10**9, 8 * 10**9))
    monkeypatch.setattr(data, "cuda", SimpleNamespace(device_array=full, current_context=lambda: context))
    with pytest.raises(MemoryError, match=r"X takes 4,000 MB, of 8,000 MB 1,000 MB are free.*batch_size"):
        data.allocate(10**9, np.float32, "X")


def test_what_the_gpu_does_not_know_is_refused(monkeypatch):
    """New fields of the tables are refused by name until tables.py says that kernels/cuda reads them."""
    rows, hyper = np.zeros(codes.HEADER + codes.LAYER_COLUMNS, np.int64), np.zeros(codes.HYPER)
    rows[codes.P_LAYERS] = 1
    plan.refuse(rows, hyper)
    for prefix, values in (("P", rows), ("L", rows[codes.HEADER :]), ("H", hyper)):
        table = tables.Table.all[prefix]
        new = next(f for f in reversed(table.fields) if f.readers == tables.BOTH)
        fields = [f if f is not new else f._replace(readers=tables.CPU) for f in table.fields]
        monkeypatch.setattr(table, "fields", fields)
        values[new.place] = 1
        with pytest.raises(NotImplementedError, match=rf"does not do this yet \({new.name[2:].lower()}\)"):
            plan.refuse(rows, hyper)
        values[new.place] = 0
    rows[codes.HEADER + codes.L_ACTIVATION] = codes.USER - 1
    with pytest.raises(NotImplementedError, match=f"activation {codes.USER - 1}"):
        plan.refuse(rows, hyper)


@pytest.mark.parametrize("kind", ["f8", "?"])
def test_sparse_rows_and_shards_give_the_bits_of_an_array(rng, kind, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    from fastbp.kernels.cuda import data

    monkeypatch.setattr(data, "PIECE", 2 * 4 * 3 * np.dtype(kind).itemsize)  # two batches
    X, y, found = rng.integers(0, 2, (11, 3)).astype(kind), rng.integers(0, 2, 11), []
    shards = fb.data.shards([X[:4], X[4:5], X[5:]])
    for given in (X, sparse.csr_array(X), sparse.coo_matrix(X), shards):
        net = fb.MLP([3, 4, 2], seed=0)
        trainer = fb.Trainer(net, batch_size=4, seed=1, device="cuda")
        trainer.fit(given, y, epochs=2)
        loss, _ = trainer.gradients(given, y)
        results = trainer.predict(given), trainer.activations(given)
        found.append([*net.params, loss, *trainer.evaluate(given, y).values(), *np.hstack(results).ravel()])
    for other in found[1:]:
        assert np.array_equal(other, found[0])


def test_many_networks_launch_in_turns(rng, monkeypatch):
    """While the device works at one network's window the next is launched; X goes there once."""
    from fastbp.data.gpuarrays import OnDevice

    X, y = rng.standard_normal((12, 3)).astype("f4"), rng.integers(0, 2, 12)
    launched, launch, kept = [], program.Run.launch, OnDevice.copy_of
    monkeypatch.setattr(
        program.Run, "launch", lambda run, *rest: (launched.append(id(run)), launch(run, *rest))[1]
    )
    moved = []
    monkeypatch.setattr(OnDevice, "copy_of", lambda x: (moved.append(x), kept(x))[1])
    trainers = [
        fb.Trainer(fb.MLP([3, 4, 2], seed=k), batch_size=4, device="cuda", seed=k, threads=1)
        for k in range(3)
    ]
    fb.fit_many(trainers, X, y, epochs=2)
    assert len(moved) == 1
    runs = list(dict.fromkeys(launched))
    assert len(runs) == 3 and launched[:6] == runs * 2  # windows of a step, then of two


def test_ctrl_c_ends_all_networks_where_they_are(rng, monkeypatch, capsys):
    """Counters and weights belong together: going on gives the bits of never having stopped."""
    import _thread

    X, y = rng.standard_normal((12, 3)).astype("f4"), rng.integers(0, 2, 12)
    make = lambda: [  # noqa: E731
        fb.Trainer(fb.MLP([3, 4, 2], seed=k), batch_size=12, device="cuda", seed=k) for k in range(3)
    ]
    launch, launched = program.Run.launch, []

    def interrupted(run, *rest):
        launched.append(run)
        if len(launched) == 8:
            _thread.interrupt_main()
        return launch(run, *rest)

    monkeypatch.setattr(program.Run, "launch", interrupted)
    many = make()
    histories = fb.fit_many(many, X, y, epochs=5)
    monkeypatch.undo()
    assert [h.stopped for h in histories] == ["Ctrl-C"] * 3
    assert capsys.readouterr().err.count("stopped by Ctrl-C") == 1
    assert 0 < sum(t.steps for t in many) < 15
    for trainer, other in zip(many, make(), strict=True):
        other.fit(X, y, trainer.steps, verbose=0)
        assert np.array_equal(trainer.net.params, other.net.params) and trainer.steps == trainer.epochs
