"""Many networks in one call of the compiled program: each network's row of its table, the threads' desks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes
from ..network.layout import arena
from . import averages, backend, parallel, sessions
from .options import Options
from .plan import Plan

if TYPE_CHECKING:
    from ..types import Array, Doubles
    from .anytrainer import AnyTrainer
    from .samples import Samples

STEP_SECONDS, PRODUCT_SECONDS = 1e-6, 4e-11  # of a step, about: what it takes at least; a multiply-add
CHUNK = 0.01  # seconds of steps between two looks at the clock, about
TICKS = 10_000_000  # of the first call, which tells how many a second has


class Pass:
    """A pass of one network over some rows: its plan, its call, and all that these point to.

    rows : numbers of the samples' rows, (n,) int32, or None for all.
    """

    plans: dict[Any, Plan] = {}

    def __init__(
        self, trainer: AnyTrainer, samples: Samples, rows: Array | None, batch: int, mode: int,
        known: dict[Any, Plan],
    ) -> None:  # fmt: skip
        self.count = samples.rows if rows is None else len(rows)
        self.steps, self.rows = -(-self.count // batch), rows
        self.plan = self._plan(trainer, samples, batch, mode, known)
        self.table = self.plan.table
        weight = sessions.loss_weights(trainer, samples)
        self.share = 1.0
        if weight is not None:
            self.share = np.count_nonzero(weight if rows is None else weight[rows]) / self.count
        self.numbers = np.asarray(self.plan.numbers, np.float64)
        self.call = np.zeros(codes.CALL, np.int64)
        self.call[codes.K_MODE], self.call[codes.K_THREADS], self.call[codes.K_COLUMNS] = mode, 1, 1
        self.call[codes.K_SAMPLES : codes.K_OUT + 1] = backend.data_fields(samples.X, samples.y, weight, None)
        self.call[codes.K_SAMPLES], self.call[codes.K_SEED] = self.count, trainer.seed
        self._kept = samples, weight

    @staticmethod
    def _plan(trainer, samples, batch, mode, known):
        """The plan, made once for networks that have the same."""
        net, options, trains = trainer.net, Options.of(trainer), mode == codes.TRAIN
        second, frozen = (options.stores, sessions.frozen(trainer)) if trains else (False, ())
        numbers, code = trainer.loss.numbers(net.sizes[-1]), sessions.update_code(trainer)
        width = samples.y.shape[1]
        key = (
            net.dtype, *map(repr, (net.sizes, net.activations, net.norms, net.dropouts, net.skips,
            net.embedded, net.input_dropout)), second, tuple(frozen), samples.code, width, code,
            batch, tuple(numbers), options.ema is not None,
        )  # fmt: skip
        plan = known.get(key)
        if plan is None:
            plan = Plan(net, samples.code, code, batch, 1, second, frozen, numbers, options.ema is not None)
            backend.name_functions(plan, net.dtype)
            plan.table[codes.P_TARGETS] = width
            known[key] = plan
        return plan

    def fill(self, row: Array, params: Array) -> None:
        """Its part of a network's row."""
        row[codes.V_PARAMS], row[codes.V_PLAN] = backend.address(params), backend.address(self.table)
        row[codes.V_CALL], row[codes.V_NUMBERS] = backend.address(self.call), backend.address(self.numbers)
        row[codes.V_COUNT], row[codes.V_WORK] = len(self.numbers), self.plan.work_size
        row[codes.V_ROWS] = 0 if self.rows is None else backend.address(self.rows)
        row[codes.V_STEPS] = self.steps


class Job:
    """One network of a call for many: its row of the table, and what that points to."""

    def __init__(self, trainer: AnyTrainer, training: Pass, validation: Pass | None, shuffle: bool) -> None:
        self.trainer, self.training, self.validation = trainer, training, validation
        net, every = trainer.net, Options.of(trainer).accumulate
        self.hyper = np.empty(codes.HYPER + len(net.layers))
        work = parallel.step_work(net, int(training.table[codes.P_BATCH]))
        self.step_seconds = STEP_SECONDS + work * PRODUCT_SECONDS
        chunk = max(1, int(CHUNK / self.step_seconds))
        self.row: Array = np.zeros(codes.MANY + 2 * codes.PASS, np.int64)
        self.row[codes.M_SLOTS], self.row[codes.M_HYPER] = (
            backend.address(trainer.slots),
            backend.address(self.hyper),
        )
        self.row[codes.M_EVERY], self.row[codes.M_CHUNK] = every, -(-chunk // every) * every
        self.row[codes.M_SHUFFLED], self.row[codes.M_SEED] = shuffle, trainer.seed
        training.fill(self.row[codes.MANY :], net.params)
        if validation is not None:
            params = net.params if trainer.ema is None else averages.average(trainer)
            validation.fill(self.row[codes.MANY + codes.PASS :], params)
        self.row[codes.M_STATE] = codes.DONE

    def begin(self, epochs: int, constants: Doubles, kept: bool) -> None:
        """Have ``epochs`` more to do. constants : of their updates, (updates, codes.CONSTANTS); kept :
        whether the parameters after each are."""
        row, trainer = self.row, self.trainer
        size = trainer.net.params.size
        self.snapshots = np.empty((epochs, size), trainer.net.dtype) if kept else None
        row[codes.M_SNAPSHOTS] = backend.address(self.snapshots)
        self.hyper[:] = sessions.hyper(trainer)
        self.constants, self.record = constants, np.zeros((epochs, codes.RECORDS))
        row[codes.M_CONSTANTS] = backend.address(constants)
        row[codes.M_RECORD] = backend.address(self.record)
        row[codes.M_EPOCHS], row[codes.M_EPOCH], row[codes.M_STEP] = epochs, 0, 0
        row[codes.M_NUMBER], row[codes.M_STREAM] = trainer.steps, trainer.epochs - 1  # one has begun
        row[codes.M_STATE] = codes.WAITING


class Many:
    """The networks of a call for many, of one dtype, and the threads that share them out."""

    def __init__(self, jobs: list[Job], threads: int) -> None:
        dtype = jobs[0].trainer.net.dtype
        self.run, worker = backend.load_many(dtype)
        self.jobs, self.threads = jobs, threads
        self.table = np.stack([job.row for job in jobs])
        for job, row in zip(jobs, self.table, strict=True):
            job.row = row
        passes = [p for job in jobs for p in (job.training, job.validation) if p is not None]
        line = 64 // dtype.itemsize
        floats = -(-max(p.plan.work_size for p in passes) // line) * line
        self.work = arena(threads * floats, dtype).reshape(threads, floats)
        self.order = np.empty((threads, max(p.count for p in passes) + 16), np.int32)
        self.results = np.zeros((threads, codes.RESULTS + 16))
        layers = max(int(p.table[codes.P_LAYERS]) for p in passes)
        size = codes.SYNC + codes.trace_size(layers)
        self.sync = arena((threads + 1) * size, np.int64).reshape(threads + 1, size)
        self.call = np.zeros(codes.BATCHES, np.int64)
        self.call[codes.B_NETWORKS], self.call[codes.B_WORKER] = len(jobs), worker
        self.rate = 0.0  # ticks a second

    def turn(self, seconds: float, left: Doubles) -> None:
        """Train for about ``seconds``. left : what each network has still to do, in seconds, about: its share
        of the time, so that all are done at the same time."""
        budget = int(seconds * self.rate) or TICKS
        self.table[:, codes.M_TURN] = np.maximum(1, left * (self.threads * budget / max(left.sum(), 1e-30)))
        self.call[codes.B_BUDGET] = budget
        start = time.perf_counter()
        with parallel.region(self.threads) as allowed:
            self.call[codes.B_THREADS] = allowed
            self.run(self.call, self.table, self.work, self.order, self.results, self.sync)
        self.rate = self.call[codes.B_SPENT] / (time.perf_counter() - start)
