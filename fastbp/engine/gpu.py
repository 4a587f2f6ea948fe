"""The session of a GPU: what backend.Session is for the CPU, over kernels/cuda."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..custom.functions import definition
from ..data.gpuarrays import OnDevice
from ..kernels import codes
from ..network.layout import arena
from .parallel import WINDOW
from .turns import others_go_on

if TYPE_CHECKING:
    from ..types import Array, Doubles, Floats
    from .plan import Plan

_process: int | None = None  # in which CUDA was begun


def _same_process():
    """Raises RuntimeError in a child of the process that began: CUDA does not live through a fork."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise RuntimeError(
            'device: got "cuda" in a process forked from one that had used it, takes one that '
            'multiprocessing started by "spawn" or "forkserver"'
        )


class GpuSession:
    """Buffers of one network with one plan on the GPU; each call runs a window of steps there.

    The host's parameters and slots are the truth between passes: they go down when a pass begins and
    come back when it ends, however it ends. The rest, data, order, sums of the loss, stays down.
    updates: the Updates of the next training steps (rates.py).
    program: kernels.cuda.program; the others as for backend.Session.
    """

    def __init__(self, program: Any, params: Floats, slots: Floats, plan: Plan, hyper: Doubles) -> None:
        _same_process()
        program.refuse(plan.table, hyper)
        self.program, self.hyper, self.table = program, hyper, plan.table
        used = {int(code) for code in plan.table[plan.coded] if code >= codes.USER}
        users = {code: definition(code) for code in used}
        self._run = program.Run(params, slots, plan.table, plan.work_size, plan.numbers, users)
        self.team = SimpleNamespace(threads=1)  # of the host
        self.gradient: Any = None  # laid out as the parameters; for plans that have a gradient arena
        if plan.table[codes.P_GRADIENT]:
            self.gradient = arena(params.size, params.dtype)
        self.order = np.empty(0, np.int32)
        self.window, self.done = 1, 0  # steps of the next window; steps done since step 0
        self.updates: Any = None  # Updates, while it trains
        self._mode: int | None = None  # of the pass that is under way
        self._number = 0  # updates made before it

    @property
    def params(self) -> Floats:
        """The parameters to run by, on the host: those of the network, or others laid out as they."""
        return self._run.params

    @params.setter
    def params(self, params: Floats) -> None:
        self._run.params = params

    def seed(self, number: int) -> None:
        """The seed of what training steps drop."""
        self._run.seed = number

    def set_loss(self, code: int) -> None:
        """Change the loss's code, between labels and probabilities; the plan has room for either."""
        self.table[codes.P_LOSS] = code

    def bind(
        self,
        x: Any,
        y: Array | None = None,
        weight: Array | None = None,
        out: Array | None = None,
        offsets: int = 0,
    ) -> None:
        """Move data to the GPU, or keep what is there: x (N, inputs), y (N, targets), weight, out (N, O).

        x may be sparse rows or shards, which come piece by piece. offsets : of y the last so many columns,
        which are added to the outputs: none, or all O.
        """
        _same_process()
        if isinstance(x, OnDevice):
            x = self.program.data.view(x)
        elif out is not None:
            x = np.asarray(x)
        self.table[codes.P_OFFSETS] = offsets
        if y is not None:
            self.table[codes.P_TARGETS] = y.shape[1] - offsets
        self._run.bind(x, y, weight, out)

    def infer(self, mode: int, x: Any, offset: Floats | None = None) -> tuple[Any, int]:
        """(outputs (N, O), numbers of x that are not finite) in PREDICT or FORWARD mode; x (N, inputs).

        x that lies on the device gives outputs there, in an array of the same library. Other x go down in
        pieces where all of it would not fit. offset : (N, O) or None, added to the outputs, before the link.
        """
        shape, dtype = (len(x), int(self.table[codes.P_OUTPUTS])), self.params.dtype
        if isinstance(x, OnDevice):
            out = self.program.data.allocate(shape[0] * shape[1], dtype, "the predictions")
            bad = self._infer(mode, x, offset, out)
            return x.like(out.reshape(shape)), bad
        out = np.empty(shape, dtype)
        return out, self._infer_pieces(mode, x, offset, out)

    def infer_samples(self, mode: int, x: Any, samples: int, offset: Floats | None = None) -> tuple[Any, int]:
        """As ``infer``, with dropout, so many times: (outputs (samples, N, O), numbers not finite)."""
        shape, dtype = (samples, len(x), int(self.table[codes.P_OUTPUTS])), self.params.dtype
        if isinstance(x, OnDevice):
            size = shape[1] * shape[2]
            out = self.program.data.allocate(samples * size, dtype, "the predictions")
            parts = ((k, out[k * size : (k + 1) * size]) for k in range(samples))
            bad = [self._infer(mode, x, offset, part, (k + 1) * codes.SAMPLE) for k, part in parts]
            return x.like(out.reshape(shape)), bad[0]
        out = np.empty(shape, dtype)
        bad = [self._infer_pieces(mode, x, offset, one, (k + 1) * codes.SAMPLE) for k, one in enumerate(out)]
        return out, bad[0]

    def _infer_pieces(self, mode, x, offset, out, number=0):
        """Into an array of the host, x piece by piece where it does not fit."""
        batch, bad = int(self.table[codes.P_BATCH]), 0
        rows = self.program.data.rows_that_fit(x, out.shape[1] * out.itemsize, batch)
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            piece = np.asarray(x[part])  # sparse rows and shards are filled
            before = number + start // batch if number else 0
            bad += self._infer(mode, piece, None if offset is None else offset[part], out[part], before)
        return bad

    def _infer(self, mode, x, offset, out, number=0):
        self.bind(x, offset, out=out, offsets=0 if offset is None else offset.shape[1])
        *_, (_, _, _, bad) = self.windows(mode, -(-len(x) // int(self.table[codes.P_BATCH])), number)
        self.release()
        return bad

    def release(self) -> None:
        """Let go of the data that was bound."""
        self._run.release()

    def limit(self, rows: int) -> None:
        """Let the passes to come end after so many of the samples, in the order that they have."""
        self._run.feed.samples = rows

    def shuffle(self, seed: int, epoch: int) -> None:
        """Draw the order of an epoch: the CPU's for the same seed, epoch and number of samples."""
        count = len(self._run.feed.host[0])
        if len(self.order) != count:
            self.order = np.empty(count, np.int32)
        self.program.draw_order(self.order, seed, epoch)
        self._run.feed.shuffled(self.order, self._run.stream)

    def windows(self, mode: int, steps: int, number: int = 0) -> Iterator[tuple[int, float, float, int]]:
        """Run steps [0, steps) of the bound data in windows of about WINDOW seconds; see backend.Session."""
        run = self._begin(mode, number)
        try:
            while self.done < steps:
                start = time.perf_counter()
                count = min(self.window, steps - self.done)
                self._tell(self.done, self.done + count)
                run.launch(self.done, count)
                others_go_on()
                before = self.done
                self.done, loss, mass, hits = run.read()
                seconds = time.perf_counter() - start
                if count == self.window:
                    self.window = max(1, min(2 * count, int(count * WINDOW / seconds)))
                if self.done >= steps or self.done < before + count:
                    self._end_pass()
                yield self.done, loss, mass, hits
                if self.done < before + count:
                    return
        finally:
            self._end_pass()

    def each(self, mode: int, steps: int) -> Iterator[int]:
        """Run the steps one at a time; yields the number of each, when layer_rows has its results."""
        run = self._begin(mode, 0)
        try:
            for step in range(steps):
                self._tell(step, step + 1)
                run.launch(step, 1)
                self.done = run.read()[0]
                yield step
        finally:
            self._end_pass()

    def combined(
        self, steps: int, number: int, combine: Callable[[], object]
    ) -> Iterator[tuple[int, Any, Any, int]]:
        """As windows(TRAIN, ...), one step at a time: ``combine`` is called between the gradients, which
        lie in ``gradient``, and the update."""
        run = self._begin(codes.TRAIN, number, stored=True)
        try:
            for step in range(steps):
                self._tell(step, step + 1)
                run.launch(step, 1, run.FIRST)
                done, loss, mass, hits = run.read()
                if done > step:
                    run.exchange(self.gradient, combine)
                    if not np.isfinite(self.gradient).all():  # what was combined: nothing changes
                        self.done = step
                        yield step, np.nan, mass, hits
                        return
                    run.launch(step, 1, run.SECOND)
                    done, loss, mass, hits = run.read()
                self.done = done
                yield done, loss, mass, hits
                if done == step:
                    return
        finally:
            self._end_pass()

    @property
    def lost(self) -> bool:
        """Whether the last update has met or made numbers that are not finite."""
        return bool(self._run.state[codes.G_BROKEN])

    def layer_rows(self, layer: int, rows: int) -> tuple[Floats, ...]:
        """(outputs, deltas) of a layer, each (rows, width), as the last step left them: copies."""
        return self._run.layer_rows(layer, rows)

    def input_rows(self, rows: int) -> Floats:
        """The gradient of the inputs, (rows, their number), as the last step left it: a copy."""
        return self._run.input_rows(rows)

    def timed(self, steps: int, number: int) -> list[Any]:
        """(seconds of a step of TRAIN, [(launch, its seconds in each step)]): see Run.pace and Run.timed."""
        found = []
        for measured in (self._run.pace, self._run.timed):
            self._begin(codes.TRAIN, number)
            try:
                self._tell(0, steps)
                found.append(measured(steps))
            finally:
                self._end_pass()
        return found

    def _begin(self, mode, number, stored=False):
        if mode == codes.TRAIN and self.table[codes.P_OPTIMIZER] == codes.STORE:
            raise ValueError("optimizer: got LBFGS, which only fit takes")
        self.done, self._mode, self._number = 0, mode, number
        self._run.upload(mode, self.hyper, number, stored)
        return self._run

    def _tell(self, begin: int, end: int) -> None:
        """Tell the device about steps [begin, end). Who is asked between two windows may have changed it."""
        window = self.updates.window(self._number, begin, end) if self._mode == codes.TRAIN else None
        self._run.tell(self.hyper, window)

    def _end_pass(self):
        """End a pass: steps counted, parameters and slots on the host as the last one left them."""
        mode, self._mode = self._mode, None
        if mode is not None:
            self.done = self._run.read()[0]
            self._run.download(mode)
