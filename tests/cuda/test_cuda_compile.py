"""Every float32 GPU kernel becomes machine code for sm_90, without a GPU, and keeps to its registers.

The table, of both precisions and three generations, is written by `python -m bench.ptx --write`, which takes
minutes; docs/gpu.md tells what its numbers mean.
"""

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None or importlib.util.find_spec("nvidia") is None:
    pytest.skip("takes numba-cuda and its wheels: pip install '.[cuda12]'", allow_module_level=True)

from numba import config

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from bench.gpu import ptx

ROOT = Path(__file__).resolve().parents[2]
SLACK = 8  # registers that another patch level of the toolkit may take more
KNOWN = json.loads(ptx.TABLE.read_text())


def test_registers_and_spills():
    found = ptx.measure(["float32"], [(9, 0)])
    assert set(found) == {key for key in KNOWN if key.startswith("float32 sm_90 ")}
    for key, (registers, spilled, shared) in found.items():
        most, known_spilled, known_shared = KNOWN[key]
        assert registers <= most + SLACK, (key, registers, most)
        assert spilled <= known_spilled, (key, spilled, known_spilled)
        assert shared == known_shared and shared <= 48 << 10, (key, shared)


def test_nothing_spills():
    """No kernel with a product loop, nor any other: the table of three generations; and, compiled here, all
    tiles' forward and backward products, which are held to 128 registers, for these and two more.
    """
    assert not {key: spilled for key, (_, spilled, _) in KNOWN.items() if spilled}
    kinds = [(7, 5), (8, 0), (8, 6), (8, 9)]
    found = {}
    for product in ("dense_forward", "dense_backward"):
        found |= ptx.measure(["float32"], kinds, product)
    assert len(found) == 6 * len(kinds)
    for key, (registers, spilled, _) in found.items():
        assert registers <= 128 and not spilled, key


def test_the_page_holds_the_table_and_the_predictions():
    """docs/gpu.md: registers of every kernel, and what bench/gpu/model.py predicts."""
    from bench.gpu import card, model

    page = (ROOT / "docs" / "gpu.md").read_text().splitlines()
    assert set(model.table(card.CASES).splitlines()) <= set(page)
    for kernel in {key.split()[2] for key in KNOWN}:
        cells = []
        for kind in ptx.DTYPES:
            found = [KNOWN["{} sm_{}{} {}".format(kind, *c, kernel)] for c in ptx.CAPABILITIES]
            cells += [" / ".join(str(one[0]) for one in found), f"{found[0][2]:,}"]
        assert f"| {kernel} | " + " | ".join(cells) + " |" in page, kernel


def test_the_inner_loop_is_vector_loads_and_fused_multiply_adds():
    """The wide tile: 64 multiply-adds for four 16-byte loads from shared memory, nothing in local memory."""
    [(_, _, text)] = ptx.ptx("float32", [(9, 0)], "forward_wide")
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if "ld.shared.v4" in line)
    last = next(i for i in range(first, len(lines)) if "bra" in lines[i])
    loop = lines[first:last]
    loads, fused = (sum(text in line for line in loop) for text in ("ld.shared.v4.f32", "fma.rn.f32"))
    assert loads >= 4 and fused == 16 * loads
    assert len(loop) - loads - fused < fused / 8, "address arithmetic has crept in"
    assert text.count("ld.global.v4.f32") == 8
    assert "ld.local" not in text and "st.local" not in text


def test_what_only_a_card_calls_is_there():
    """Names of numba-cuda and cuda.core that neither the simulator nor a compiler touches."""
    from cuda.core import Device, LaunchConfig, Stream
    from numba import cuda
    from numba.cuda.cudadrv import devicearray, driver

    try:
        from cuda.core.graph import Graph, GraphBuilder
    except ImportError:
        from cuda.core import Graph, GraphBuilder
    for owner, names in ((GraphBuilder, "begin_building end_building complete stream"), (Graph, "launch"),
                         (Stream, "from_handle"), (Device, "set_current create_graph_builder"),
                         (driver.Stream, "synchronize"), (driver.Event, "record wait synchronize"),
                         (driver.Context, "get_memory_info"), (devicearray.DeviceNDArray, "bind"),
                         (cuda, "stream event event_elapsed_time pinned_array device_array"),
                         (cuda, "from_cuda_array_interface current_context")):  # fmt: skip
        for name in names.split():
            assert hasattr(owner, name), (owner, name)
    assert len(driver.NumbaCUDAMemoryManager(context=None).deallocations) == 0
    with pytest.raises(ValueError, match="int"):  # what tests/support/simulator.py refuses too
        LaunchConfig(grid=(np.int64(3), 1, 1), block=32)


def test_machine_code_is_kept_on_disk(monkeypatch, tmp_path):
    """A kernel is saved and found again by another process's dispatcher; another digest finds nothing."""
    from numba import float32
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices

    from fastbp.kernels.cuda import cache, program

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    card = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: card)
    monkeypatch.setattr(dispatcher._Kernel, "bind", lambda self: None)  # loads it into the driver
    monkeypatch.setattr(devices, "get_context", lambda *a: SimpleNamespace(device=card))
    arguments = ptx.signatures(float32)["square_norm"]

    def fresh():
        program.load.cache_clear()
        return program.load(np.dtype("float32"))["square_norm"]

    first, second = fresh(), fresh()
    first.compile(arguments)
    second.compile(arguments)
    assert sum(first.stats.cache_misses.values()) == 1 and sum(second.stats.cache_hits.values()) == 1
    monkeypatch.setattr(cache, "source_digest", lambda device: "another")
    third = fresh()
    third.compile(arguments)
    assert sum(third.stats.cache_misses.values()) == 1
    program.load.cache_clear()


def test_users_functions_become_kernels_of_their_own(monkeypatch, tmp_path):
    """finish_layer and loss, in no more registers than ours; each definition has its own machine code."""

    import fastbp as fb
    from fastbp.custom import functions
    from fastbp.kernels.cuda import custom, program
    from fastbp.network import activations

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    name = fb.activation(lambda z: z / (1 + abs(z)), name="mine")
    loss = fb.loss(lambda z, t: (z - t) ** 2, name="square")
    texts = [functions.definition(activations.USERS[name]), functions.definition(loss.code(1))]
    found = {kernel: ptx.resources(text, c) for kernel, c, text in ptx.ptx("float32", [(9, 0)], users=texts)}
    for kernel, used in found.items():
        assert used["registers"] <= KNOWN[f"float32 sm_90 {kernel}"][0] + SLACK and not used["spilled"]
    assert set(found) == {"finish_layer", "loss"}
    kinds = np.dtype("float32"), program.namespace
    made = [custom.kernel_of(texts[0], *kinds), program.load(kinds[0])["finish_layer"]]
    keys = [kernel._cache._index_key("signature", SimpleNamespace(magic_tuple=tuple)) for kernel in made]
    assert keys[0] != keys[1]


def test_the_gather_reads_every_dtype(monkeypatch):
    """It is the one kernel that is compiled for a dtype of X."""
    from numba import cuda, float32, from_dtype, types
    from numba.cuda import dispatcher

    from fastbp.kernels import codes
    from fastbp.kernels.cuda import program

    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=(9, 0)))
    gather = program.load(np.dtype("float32"))["gather"]
    for kind, size in codes.DTYPES:
        if kind != "b":  # a view of bytes
            of = from_dtype(np.dtype(f"{kind}{size}"))[::1]
            arguments = types.void(of, *ptx.signatures(float32)["gather"][1:])
            text, _ = cuda.compile(gather.py_func, arguments, device=False, abi="numba", cc=(9, 0))
            assert re.search(rf"ld\.global\.[usbf]{8 * size}\b", text), (kind, size)
