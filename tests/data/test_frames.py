"""What X and y may be: frames, Arrow, tensors, sparse matrices, shards; names; the same bits as NumPy."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from libraries import frames_of

import fastbp as fb
from fastbp import data, files, preparation
from fastbp.data import frames
from fastbp.data.frames import Frame

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["f4", "f8", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"]


def sparse_numbers(rng, kind, rows=60, columns=37):
    values = rng.integers(0, 2 if kind == "?" else 100, (rows, columns))
    return (values * (rng.random((rows, columns)) < 0.2)).astype(kind)


def trained(X, y, dtype="float32", outputs=3, validation=None, threads=2):
    """Everything that training and use give: the bits to compare."""
    net = fb.MLP([X.shape[1], 20, outputs], seed=0, dtype=dtype)
    trainer = fb.Trainer(net, batch_size=16, seed=0, threads=threads)
    trainer.fit(X, y, epochs=2, validation_data=(X, y))
    loss, gradients = trainer.gradients(X, y)
    numbers = [
        trainer.net.params,
        trainer.predict(X),
        *(a.ravel() for pair in gradients for a in pair),
        [loss],
    ]
    return np.concatenate([np.ravel(n) for n in numbers] + [list(trainer.evaluate(X, y).values())])


def assert_same(X, y, *others, **options):
    expected = trained(X, y, **options)
    for other in others:
        assert np.array_equal(trained(other, y, **options), expected)


# --- sparse


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_of_any_dtype_and_format_give_the_bits_of_filled_ones(rng, kind, dtype):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = sparse_numbers(rng, kind), rng.integers(0, 3, 60)
    X[7] = 0
    assert_same(X, y, sparse.csr_matrix(X), sparse.coo_array(X), sparse.csc_matrix(X), dtype=dtype)


def test_sparse_entries_that_stand_twice_are_added_and_int64_places_read(rng):
    sparse = pytest.importorskip("scipy.sparse")
    y = rng.integers(0, 3, 5)
    matrix = sparse.csr_matrix((np.float32([1, 2, 4, 8]), [3, 3, 0, 2], [0, 2, 2, 3, 4, 4]), shape=(5, 4))
    assert matrix.nnz == 4
    big = matrix.copy()
    big.indices, big.indptr = big.indices.astype(np.int64), big.indptr.astype(np.int64)
    assert_same(matrix.toarray(), y, matrix, big)


def test_a_sparse_matrix_that_is_none_is_refused(rng):
    sparse = pytest.importorskip("scipy.sparse")
    trainer, y = fb.Trainer(fb.MLP([4, 3], seed=0)), [0, 1]
    good = sparse.csr_matrix(np.eye(2, 4))
    for change, says in [
        ({"indices": np.int32([0, 9])}, "columns 0 to 9, takes 0 to 3"),
        ({"indices": np.int32([-1, 1])}, "columns -1 to 1"),
        ({"indptr": np.int32([0, 9, 2])}, "row starts"),
        ({"indptr": np.int32([0, 1, 9])}, "row starts"),
        ({"indptr": np.int32([1, 1, 2])}, "row starts"),
    ]:
        bad = good.copy()
        for name, value in change.items():
            setattr(bad, name, value)
        with pytest.raises(ValueError, match=says):
            trainer.fit(bad, y)
    with pytest.raises(ValueError, match=r"got nan at row 1, column 1"):
        trainer.fit(sparse.csr_matrix([[1.0, 0, 0, 0], [0, np.nan, 0, 0]]), y)
    for use in (trainer.predict, trainer.forward):
        with pytest.raises(ValueError, match=r"got inf at row 1, column 2"):
            use(sparse.csr_matrix([[1.0, 0, 0, 0], [0, 0, np.inf, 0]]))
    with pytest.raises(ValueError, match="got 5 columns, takes 4"):
        trainer.fit(sparse.csr_matrix((2, 5)), y)
    with pytest.raises(TypeError, match="complex"):
        trainer.fit(good.astype(complex), y)
    assert trainer.steps == 0


def test_sparse_targets_are_filled(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, Y = rng.standard_normal((40, 5)), (rng.random((40, 3)) < 0.3).astype(float)
    nets = [fb.MLP([5, 3], seed=0) for _ in range(2)]
    for net, y in zip(nets, (Y, sparse.csr_matrix(Y)), strict=True):
        fb.Trainer(net, "bce_with_logits", seed=0).fit(X, y)
    assert np.array_equal(nets[0].params, nets[1].params)


# --- shards


@pytest.mark.parametrize("kind", ["f2", *KINDS])
def test_shards_give_the_bits_of_one_array(rng, tmp_path, kind):
    X, y = sparse_numbers(rng, kind), rng.integers(0, 3, 60)
    cuts = [0, 1, 9, 9, 40, 60]
    parts = [X[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    parts[3] = np.asfortranarray(parts[3])
    (tmp_path / "y").mkdir()
    for i, part in enumerate(parts):
        np.save(tmp_path / f"{i}.npy", part)
        np.save(tmp_path / "y" / f"{i}.npy", y[cuts[i] : cuts[i + 1]])
    shards, labels = data.shards(tmp_path), data.shards(tmp_path / "y")
    assert isinstance(shards.arrays[1], np.memmap) and shards.shape == X.shape
    assert np.array_equal(np.asarray(labels), y)
    assert_same(X, y, shards, data.shards(parts))
    assert np.array_equal(trained(shards, labels), trained(X, y))


def test_bad_shards_are_refused(rng, tmp_path):
    with pytest.raises(FileNotFoundError, match="no .npy files"):
        data.shards(tmp_path)
    with pytest.raises(ValueError, match="got none"):
        data.shards([])
    with pytest.raises(ValueError, match=r"shard 1 has shape \(2, 4\), shard 0 \(2, 3\)"):
        data.shards([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(TypeError, match="shard 1 has dtype float32, takes float64"):
        data.shards([np.zeros((2, 3)), np.zeros((2, 3), "f4")])
    with pytest.raises(TypeError, match=">f8"):
        data.shards([np.zeros((2, 3), ">f8")])
    np.save(tmp_path / "o.npy", np.array([{}, 1], object))
    with pytest.raises(ValueError, match="Python objects"):
        data.shards(tmp_path)
    bad = np.zeros((3, 2))
    bad[1, 1] = np.inf
    with pytest.raises(ValueError, match="got inf at row 6, column 1"):
        fb.Trainer(fb.MLP([2, 2], seed=0)).fit(data.shards([np.zeros((5, 2)), bad]), np.zeros(8, int))
    with pytest.raises(ValueError, match="got inf at row 6, column 1"):
        fb.Trainer(fb.MLP([2, 2], seed=0)).predict(data.shards([np.zeros((5, 2)), bad]))


def test_parts_of_sparse_rows_and_shards(rng):
    """validation_split, metrics and diagnosis take rows of what was checked."""
    sparse = pytest.importorskip("scipy.sparse")
    X, y = sparse_numbers(rng, "f4"), rng.integers(0, 3, 60)
    found = []
    for form in (X, sparse.csr_matrix(X), data.shards([X[:7], X[7:30], X[30:]])):
        trainer = fb.Trainer(fb.MLP([37, 8, 3], seed=0), batch_size=16, seed=0)
        history = trainer.fit(form, y, epochs=2, validation_split=0.3, metrics=["f1"]).history
        history |= trainer.fit(form, y, metrics=["f1"]).history
        layers = trainer.diagnose(form, y, rows=20).layers
        found.append(
            (trainer.net.params.copy(), {k: v for k, v in history.items() if k != "seconds"}, layers)
        )
        assert trainer.activations(form).shape == (60, 8)
    for params, history, layers in found[1:]:
        assert np.array_equal(params, found[0][0]) and history == found[0][1] and layers == found[0][2]


# --- streams


def batches_of(X, y, size=20):
    return ((X[i : i + size], y[i : i + size]) for i in range(0, len(X), size))


def test_a_stream_trains_as_its_rows_in_order(rng):
    """Items of whole batches: the same steps as one array that is not shuffled."""
    X, y = rng.standard_normal((96, 5)), rng.integers(0, 3, 96)

    def trainer():
        return fb.Trainer(fb.MLP([5, 8, 3], seed=0), batch_size=16, seed=0)

    plain, ones, function, pieces = (trainer() for _ in range(4))
    expected = plain.fit(X, y, epochs=1, shuffle=False).history
    got = ones.fit(batches_of(X, y, 32)).history
    assert np.array_equal(ones.net.params, plain.net.params) and (ones.steps, ones.epochs) == (6, 1)
    assert got["loss"] == pytest.approx(expected["loss"]) and got["accuracy"] == expected["accuracy"]
    plain.fit(X, y, epochs=2, shuffle=False)
    history = function.fit(lambda: batches_of(X, y, 48), epochs=3, validation_data=(X, y)).history
    assert np.array_equal(function.net.params, plain.net.params) and function.epochs == 3
    assert len(history["loss"]) == len(history["val_loss"]) == 3 == function.history.epochs
    for part in batches_of(X, y, 32):
        pieces.fit([part].__iter__())
    assert np.array_equal(pieces.net.params, ones.net.params)


def test_streams_that_are_none(rng):
    X, y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    trainer = fb.Trainer(fb.MLP([5, 3], seed=0), seed=0)
    with pytest.raises(ValueError, match="got 2 for an iterator, which ends once"):
        trainer.fit(batches_of(X, y), epochs=2)
    with pytest.raises(ValueError, match="without batches"):
        trainer.fit(iter([]))
    with pytest.raises(TypeError, match="got a stream of ndarray"):
        trainer.fit(iter([X]))
    with pytest.raises(ValueError, match="got 4 columns, takes 5"):
        trainer.fit(iter([(X[:, :4], y)]))
    with pytest.raises((TypeError, ValueError), match="y: got"):
        trainer.fit(X)
    with pytest.raises(ValueError, match="metrics: got 'auc' with a stream"):
        trainer.fit(batches_of(X, y), metrics="auc")

    def breaks():
        yield X, y
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        trainer.fit(breaks())
    assert trainer.steps == 2  # what came before was trained on


def test_reading_ahead_is_bounded_and_ends_with_its_reader():
    made = []

    def numbers():
        for i in range(1000):
            made.append(i)
            yield i

    reader = data.read_ahead(numbers(), ahead=3)
    assert next(reader) == 0
    time.sleep(0.2)
    assert len(made) <= 6  # one taken, three waiting, one being given
    before = {t for t in threading.enumerate() if t.name == "fastbp read-ahead"}
    assert before
    reader.close()
    for thread in before:
        thread.join(5)
        assert not thread.is_alive()
    assert list(data.read_ahead(range(100))) == list(range(100))


# --- tensors and frames


def test_tensors_of_torch(rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((60, 9)).astype("f4"), rng.integers(0, 3, 60)
    assert_same(X, y, torch.from_numpy(X), torch.from_numpy(X).requires_grad_())
    half = torch.from_numpy(X).bfloat16()
    assert_same(half.float().numpy(), y, half)
    assert np.array_equal(trained(X, torch.from_numpy(y)), trained(X, y))


def test_arrays_of_jax(rng):
    jnp = pytest.importorskip("jax.numpy")
    X, y = rng.standard_normal((60, 9)).astype("f4"), rng.integers(0, 3, 60)
    assert_same(X, y, jnp.asarray(X))
    assert np.array_equal(trained(X, jnp.asarray(y)), trained(X, y))


def test_what_has_dlpack_alone(rng):
    class Box:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    from fastbp.data.sources import plain

    X = rng.standard_normal((5, 3))
    assert np.array_equal(plain(Box(X)), X) and np.shares_memory(plain(Box(X)), X)


@pytest.mark.parametrize("kinds", [("f8", "f8", "f8"), ("f4", "i8", "?"), ("u1", "u1", "u1")])
def test_frames_of_every_library_give_the_bits_of_their_numbers(rng, kinds):
    columns = {n: rng.integers(0, 2, 60).astype(k) for n, k in zip("abc", kinds, strict=True)}
    X, y = np.stack(list(columns.values()), axis=1), rng.integers(0, 3, 60)
    tables = dict(frames_of(columns))
    for name, table in tables.items():
        assert np.array_equal(trained(table, y), trained(X, y)), name
    labels = dict(frames_of({"y": y}))
    for name, table in labels.items():
        assert np.array_equal(trained(X, table["y"] if name != "Frame" else y), trained(X, y)), name


def test_columns_are_found_by_name_and_must_be_there(rng, tmp_path):
    columns = {n: rng.standard_normal(40) for n in ("b", "a", "c")}
    y = rng.integers(0, 3, 40)
    for name, table in frames_of(columns):
        trainer = fb.Trainer(fb.MLP([3, 3], seed=0), seed=0)
        trainer.fit(table, y)
        expected = trainer.predict(np.stack(list(columns.values()), axis=1))
        trainer.save(tmp_path / "m.safetensors")
        for model in (trainer, fb.load(tmp_path / "m.safetensors")):
            assert model.columns == ["b", "a", "c"]
            for _, other in frames_of({n: columns[n] for n in ("a", "b", "c")}):
                assert np.array_equal(model.predict(other), expected), name
                assert model.evaluate(other, y) == model.evaluate(table, y)
            wider = dict(frames_of({**columns, "more": columns["a"]}))
            assert np.array_equal(model.predict(wider["Frame"]), expected)
            for _, short in frames_of({n: columns[n] for n in ("b", "c")}):
                with pytest.raises(ValueError, match=r"X: has no column 'a'; takes .*'b', 'a', 'c'"):
                    model.predict(short)


def test_a_refused_first_fit_remembers_no_names(rng):
    trainer, y = fb.Trainer(fb.MLP([2, 3], seed=0)), rng.integers(0, 3, 20)
    frame = Frame(["a", "b"], [rng.standard_normal(20)] * 2)
    with pytest.raises(ValueError):
        trainer.fit(frame, y, validation_data=(frame, y[:3]))
    trainer.fit(Frame(["c", "d"], frame.columns), y)
    assert trainer.columns == ["c", "d"]


@pytest.mark.parametrize(
    "columns, says",
    [
        ({"a": [1.0, None], "b": [1.0, 2.0]}, "got nan at row 1, column 0"),
        ({"a": ["x", "y"], "b": [1.0, 2.0]}, "column 'a' has dtype .*'x'.*takes numbers"),
        ({"a": [1.0, 2.0]}, "got 1 columns, takes 2"),
    ],
)
def test_frames_that_are_no_numbers_are_refused(columns, says):
    for library in ("pandas", "polars"):
        frame = pytest.importorskip(library).DataFrame(columns)
        with pytest.raises((ValueError, TypeError), match=says):
            fb.Trainer(fb.MLP([2, 2], seed=0)).fit(frame, [0, 1])


def test_columns_that_nobody_asks_for_may_hold_anything():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1.0, 2.0, 3.0, 5.0], "meta": [{"k": 1}, [2], None, 3]})
    assert frames.frame(table, only=["y", "a"]).names == ["a"]
    with pytest.raises(TypeError, match="column 'meta'"):
        frames.frame(table)
    trainer = fb.Trainer(fb.MLP([1, 1], seed=0), "mse")
    trainer.fit(table[["a"]], np.arange(4.0), verbose=0)
    assert trainer.predict(table).shape == (4, 1)
    prepared = preparation.Preparation.fit(table[["a"]])
    assert prepared.transform(table).shape == (4, 1)


def test_columns_of_a_parquet_file_that_are_dropped_may_hold_anything(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table = pandas.DataFrame({"a": np.arange(9.0), "meta": [[k] for k in range(9)], "y": np.arange(9.0)})
    table.to_parquet(tmp_path / "t.parquet")
    found = files.read(tmp_path / "t.parquet", files.Wanted("y", ["meta"]))
    assert found.feature_names == ["a"] and len(found.y) == 9
    with pytest.raises(ValueError, match="column 'meta'"):
        files.read(tmp_path / "t.parquet", files.Wanted("y"))
    found = files.features(tmp_path / "t.parquet", files.Wanted(only=["a"], of_a_model=True), 1)
    assert len(found.X) == 9
