"""A block tile of the card's own size, run without a card: each thread a generator that stops at barriers.

The simulator's threads are too slow for 256 of them. Here ``cuda.syncthreads()`` of tile.py's source becomes
``yield``, so a block takes a tenth of a second, in plain floats, and every access is looked at: vectors at
multiples of their size, nothing outside, barriers that all meet at, no two threads at a number between them.
"""

import itertools
from types import SimpleNamespace

NAN = float("nan")


class Race(AssertionError):
    """As simulator.Race."""


class Memory:
    """Numbers that a crew touches, who since the last barrier (of shared memory) or since the launch."""

    def __init__(self, numbers, crew):
        self.numbers, self.crew = numbers, crew
        self.readers, self.writers = {}, {}

    def _touch(self, i, count, mine, others):
        if i % count or not 0 <= i <= len(self.numbers) - count:
            raise IndexError(f"got {count} numbers at {i} of {len(self.numbers)}")
        me = self.crew.now
        for at in range(i, i + count):
            if mine.setdefault(at, me) != me:
                mine[at] = None  # several
            if others.get(at, me) != me or (mine is self.writers and mine[at] is None):
                raise Race(f"number {at}")

    def load(self, i, count):
        self._touch(i, count, self.readers, self.writers)
        return self.numbers[i] if count == 1 else self.numbers[i : i + count]

    def store(self, i, *values):
        self._touch(i, len(values), self.writers, self.readers)
        self.numbers[i : i + len(values)] = values


class Blocks:
    """A kernel of tile.py. mem : the arena's numbers, a list that it changes; table : a list of int."""

    def __init__(self, text, name, threads):
        self.now, self.threads = 0, threads
        self.cuda = SimpleNamespace(shared=self, threadIdx=SimpleNamespace(x=0), blockIdx=None)
        names = {"cuda": self.cuda, "number_type": None, "zero": 0.0, "fma": lambda x, y, z: x * y + z}
        names |= {"activate": lambda code, z: z, "slope": lambda code, a: 1.0, "update": self._update}
        for count in (1, 2, 4):
            names[f"load{count}"] = lambda memory, i, n=count: memory.load(i, n)
            names[f"store{count}"] = lambda memory, i, *values: memory.store(i, *values)
        exec(text.replace("cuda.syncthreads()", "yield"), names)
        self.kernel = names[name]

    def array(self, size, kind, alignment=None):
        """cuda.shared.array, asked for once by each thread."""
        self.shared = self.shared or Memory([NAN] * size, self)
        return self.shared

    @staticmethod
    def _update(code, g, mem, table, at, slots, stride, c):
        mem.store(slots, g)

    def launch(self, grid, mem, table, *arguments):
        """All blocks of a grid, one after the other."""
        mem, table = Memory(mem, self), Table(table)
        for place in itertools.product(*map(range, grid)):
            self.shared, self.cuda.blockIdx = None, SimpleNamespace(x=place[0], y=place[1])
            waiting = []
            for tid in range(self.threads):
                self.now, self.cuda.threadIdx.x = (place, tid), tid
                waiting.append((self.now, self.kernel(mem, table, *arguments)))
                self._goes_on(waiting)
            while waiting:
                if len(waiting) < self.threads:
                    raise AssertionError("threads of a block meet at different barriers")
                self.shared.readers, self.shared.writers, before, waiting = {}, {}, waiting, []
                for one in before:
                    self.now = one[0]
                    waiting.append(one)
                    self._goes_on(waiting)

    @staticmethod
    def _goes_on(waiting):
        """Run the last one up to its next barrier; who ends does not wait."""
        if next(waiting[-1][1], "end") == "end":
            waiting.pop()


class Table(list):
    """What is only read."""

    def load(self, i, count):
        return self[i]
