"""The GPU's formulas and tiles, each alone: in numba's simulator, and with generators as threads.

Skipped in the ordinary run, as test_cuda_sim.py is.
"""

import os

import blocks
import harness as h
import numpy as np
import pytest

from fastbp.kernels import codes, custom
from fastbp.kernels import reference as ref

if not int(os.environ.get("NUMBA_ENABLE_CUDASIM") or 0):
    pytest.skip("takes NUMBA_ENABLE_CUDASIM=1 and a run of its own", allow_module_level=True)

import simulator  # noqa: F401 - sees races
from numba import cuda

from fastbp.kernels.cuda import dense, losses, program, scalar, updates


@pytest.fixture(params=h.DTYPES)
def dtype(request):
    return np.dtype(request.param)


@pytest.mark.parametrize("name", codes.ACTIVATIONS)
def test_activations_and_slopes(rng, dtype, name):
    names, code = scalar.functions(dtype), codes.ACTIVATIONS[name]
    z = np.concatenate([rng.uniform(-12, 12, 40), rng.normal(0, 1e-3, 9), [0.0, 90.0, -90.0]]).astype(dtype)
    exact, slope = ref.activation(name, z.astype(float)), ref.activation_derivative(name, z.astype(float))
    if code in codes.STORED:
        got, got_slope = np.array([names["activate_stored"](code, x) for x in z]).T
    else:
        got = np.array([names["activate"](code, x) for x in z])
        got_slope = np.array([names["slope"](code, a) for a in got])
    function = names["activate_stored" if code in codes.STORED else "activate"]
    assert np.isnan(function(code, z[0] * np.nan)).any()
    tolerance = 2e-6 if dtype == np.float32 else 1e-14
    assert h.relative(got, exact) < tolerance
    kink = z == 0  # where the slope is a matter of convention between output and input
    assert h.relative(got_slope[~kink], slope[~kink]) < tolerance


def test_everything_in_the_formulas_is_here():
    """What others add to formulas.py must not be forgotten on this device."""
    from fastbp.kernels import formulas, loss_formulas

    names = {**scalar.functions(np.float32), "number_type": None, "zero": 0.0, "dtype": np.dtype("f4")}
    updates.constants(names)
    losses.build(names)
    for name, table in (("activate", formulas.ACTIVATION), ("activate_stored", formulas.ACTIVATION_AND_SLOPE),
                        ("slope", formulas.SLOPE),
                        ("loss_row", loss_formulas.LOSS), ("link_row", loss_formulas.LINK)):  # fmt: skip
        for code in table:
            assert f"{name}_{code}" in names


@pytest.mark.parametrize("name", custom.OPERATIONS)
def test_operations_of_users_functions(rng, dtype, name):
    """Each node that a user's function may have, as NumPy has it."""
    from fastbp import math as names_of

    tall = {"sinh": 5, "cosh": 5, "exp": 5, "expm1": 5}.get(name, 8)
    low = 0.1 if name in ("log", "sqrt", "power") else -0.9 if name == "log1p" else -tall
    count = 2 if name in ("add", "subtract", "multiply", "divide", "less", "greater", "equal", "where") else 1
    points = rng.uniform(low, tall, (2, 20)).astype(dtype)
    inputs = [["input", 0], ["input", 1]]
    if name in ("and", "or", "not", "where"):
        nodes = [*inputs, ["less", 0, 1], ["greater", 0, 1], ["constant", 1.0], ["constant", 0.0]]
        arguments = {"where": [2, 0, 1], "not": [2]}.get(name, [2, 3])
    elif name == "power":
        nodes, arguments = [*inputs, ["constant", 1.7]], [0, 2]
    else:
        nodes, arguments = list(inputs), [0, 1][:count]
    nodes.append([name, *arguments])
    masked = name in ("less", "greater", "equal", "and", "or", "not")
    if masked:
        last = len(nodes) - 1
        nodes += [["constant", 1.0], ["constant", 0.0], ["where", last, last + 1, last + 2]]
    namespace = scalar.functions(dtype)
    scalar.function("mine", ["x", "y"], lambda m, x, y: custom.evaluate(m, nodes, [len(nodes) - 1], [x, y]),
                    namespace, np.dtype(dtype))  # fmt: skip
    got = np.array([namespace["mine"](x, y) for x, y in points.T])
    x, y = points.astype(float)
    values = [x, y]
    for node, *operands in nodes[2:]:
        ready = [values[i] for i in operands] if node != "constant" else operands
        values.append(np.float64(ready[0]) if node == "constant" else names_of.numpy_function(node)(*ready))
    assert h.relative(got, values[-1]) < (4e-6 if dtype == np.float32 else 1e-13)


def _slot(mem, table, kernel, grid, threads, *arguments):
    """Run a kernel on host arrays; they are changed in place."""
    there = [cuda.to_device(a) for a in (mem, table)]
    with program.quiet():
        kernel[grid, threads](*there, *arguments)
    for a, host in zip(there, (mem, table), strict=True):
        a.copy_to_host(host)


@pytest.mark.parametrize("shape", dense.TILES[4])
@pytest.mark.parametrize("rows,inner,outer", [(1, 1, 1), (7, 9, 5), (17, 8, 33)])
def test_tiles(rng, dtype, shape, rows, inner, outer):
    """Each block shape's three products on ragged sizes; outputs poisoned, padding untouched."""
    kernels, one = program.load(dtype), dense.TILES[dtype.itemsize][shape]

    def launch(kind, grid, mem, table, *arguments):
        _slot(mem, table, kernels[f"{kind}_{shape}"], grid, one.threads, *arguments)

    three_products(rng, dtype, one, rows, inner, outer, launch)


@pytest.mark.parametrize("shape", dense.CARD[4])
def test_tiles_of_the_card(rng, dtype, shape):
    """As large as they are there: the same, no vector off its line, no race, no barrier that some miss.

    Each product in two slices of depth or more, ragged at every end, on two blocks.
    """
    one = dense.CARD[dtype.itemsize][shape]
    rows, inner, outer = one.depth + 3, one.depth + 5, max(one.depth, one.columns) + 7

    def launch(kind, grid, mem, table, *arguments):
        text = dense.KINDS[kind]("kernel", one, 16 // dtype.itemsize).text()
        numbers = mem.tolist()
        blocks.Blocks(text, "kernel", one.threads).launch(grid, numbers, table.tolist(), *arguments)
        mem[:] = numbers

    three_products(rng, dtype, one, rows, inner, outer, launch)


def test_races_are_seen(rng):
    """Without any one of the barriers of a tile there is a race, or a number that nobody has written."""
    one, dtype = dense.CARD[4]["small"], np.dtype("f4")
    text = dense.KINDS["dense_forward"]("kernel", one, 4).text()
    pieces = text.split("cuda.syncthreads()")

    def launch(kind, grid, mem, table, *arguments):
        if kind != "dense_forward":
            pytest.fail("the product was right")
        numbers = mem.tolist()
        blocks.Blocks(without, "kernel", one.threads).launch(grid, numbers, table.tolist(), *arguments)
        mem[:] = numbers

    assert len(pieces) > 3
    for k in range(1, len(pieces)):
        without = "cuda.syncthreads()".join(pieces[:k]) + "pass" + "cuda.syncthreads()".join(pieces[k:])
        with pytest.raises((blocks.Race, AssertionError)):
            three_products(rng, dtype, one, 33, 130, 33, launch)


def three_products(rng, dtype, one, rows, inner, outer, launch):
    """dense_forward, dense_backward and dense_update of tile ``one``, held to float64.

    launch(kind, grid, mem, table, *arguments) changes mem.
    """
    ld_in, ld_out = -(-inner // 16) * 16, -(-outer // 16) * 16
    x, delta = rng.standard_normal((rows, inner)), rng.standard_normal((rows, outer))
    w = rng.standard_normal((inner + 1, outer))
    place, mem = 0, []
    where = {}
    for name, block, ld in (("w", w, ld_out), ("slots", None, ld_out), ("x", x, ld_in), ("a", None, ld_out),
                            ("d", delta, ld_out), ("below", None, ld_in)):  # fmt: skip
        count = {"slots": inner + 1, "a": rows, "below": rows}.get(name, 0) or len(block)
        padded = np.zeros((count, ld))
        if block is None:
            padded[:, : outer if ld == ld_out and name != "below" else inner] = np.nan
        else:
            padded[:, : block.shape[1]] = block
        where[name] = place
        place += padded.size
        mem.append(padded.ravel())
    mem = np.concatenate(mem).astype(dtype)
    table = np.zeros(codes.DEVICE + codes.HEADER + 2 * codes.LAYER_COLUMNS, np.int64)
    plan = table[codes.DEVICE :]
    table[codes.G_ROWS], table[codes.G_PARTS], table[codes.G_MODE] = rows, 1, codes.TRAIN
    table[codes.G_STORE] = where["slots"]
    plan[codes.P_LAYERS], plan[codes.P_SIZE] = 2, (inner + 1) * ld_out
    below, this = plan[codes.HEADER :][: codes.LAYER_COLUMNS], plan[codes.HEADER + codes.LAYER_COLUMNS :]
    below[[codes.L_A, codes.L_DELTA, codes.L_LDA]] = where["x"], where["below"], ld_in
    below[codes.L_ACTIVATION] = codes.IDENTITY
    this[[codes.L_FAN_IN, codes.L_FAN_OUT, codes.L_W, codes.L_LDW]] = inner, outer, where["w"], ld_out
    this[[codes.L_X, codes.L_LDX, codes.L_A, codes.L_LDA, codes.L_DELTA]] = (
        where["x"], ld_in, where["a"], ld_out, where["d"])  # fmt: skip
    read = lambda name, count, width, ld: mem[where[name] :][: count * ld].reshape(count, ld)[:, :width]  # noqa: E731
    x, delta, w = (read(n, len(b), b.shape[1], ld).astype(float) for n, b, ld in
                   (("x", x, ld_in), ("d", delta, ld_out), ("w", w, ld_out)))  # fmt: skip
    tolerance = h.TOLERANCE[dtype.name]

    def grid(r, c):
        return -(-r // one.rows), -(-c // one.columns)

    index = 1
    launch("dense_forward", grid(rows, outer), mem, table, index)
    size = h.sum_size(x, w[:-1])
    assert h.relative(read("a", rows, outer, ld_out), x @ w[:-1] + w[-1], size) < tolerance
    launch("dense_backward", grid(rows, inner), mem, table, index)
    size = h.sum_size(delta, w[:-1].T)
    assert h.relative(read("below", rows, inner, ld_in), delta @ w[:-1].T, size) < tolerance
    tiles = int(np.prod(grid(inner, outer)))
    alone = table.copy()
    alone[codes.DEVICE + codes.HEADER :][: codes.LAYER_COLUMNS] = this  # the only layer of the grid
    launch("dense_update", (tiles, 1), mem, alone)
    exact = np.vstack([x.T @ delta, delta.sum(axis=0)])
    size = h.sum_size(np.vstack([x.T, np.ones(rows)]), delta)
    assert h.relative(read("slots", inner + 1, outer, ld_out), exact, size) < tolerance
    finite = np.isfinite(mem)
    assert finite.all() and not mem[where["a"] :][: rows * ld_out].reshape(rows, ld_out)[:, outer:].any()


@pytest.mark.parametrize("kind", h.DTYPES)
def test_masks_are_the_references_to_the_bit(rng, kind):
    """Any seed and step of 64 bits."""
    kernels, rows, columns, ld = program.load(np.dtype(kind)), 5, 9, 16
    for rate in (1e-9, 0.3, 0.9999):
        seed, step = int(rng.integers(2**63 - 1)), int(rng.integers(2 ** rng.integers(1, 60)))
        x = np.zeros((rows, ld), kind)
        x[:, :columns] = rng.standard_normal((rows, columns))
        table = np.zeros(codes.DEVICE + codes.HEADER + codes.LAYER_COLUMNS, np.int64)
        table[[codes.G_SEED, codes.G_DROPS, codes.G_ROWS]] = seed, step, rows
        table[codes.DEVICE + codes.P_LDX] = ld
        table[codes.DEVICE + codes.P_DROPOUT] = int(np.floor(rate * 2**32 + 0.5))
        table[codes.DEVICE + codes.HEADER + codes.L_FAN_IN] = columns
        mem = x.ravel().copy()
        _slot(mem, table, kernels["drop_inputs"], (rows, 3), 4)
        mask = ref.dropout_mask(rate, seed, step, 0, rows, columns).astype(kind)
        assert np.array_equal(mem.reshape(rows, ld)[:, :columns], x[:, :columns] * mask)
