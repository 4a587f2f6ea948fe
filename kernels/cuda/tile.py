"""The block tile of the three dense products, written as source for a shape and a dtype.

    tile (rows x columns) = sum over k of  A[:, k]  x  B[k, :]

Slices of A and B, ``depth`` deep, go through shared memory, two of each: while one is multiplied the
next is on its way. Every thread keeps its part of the tile in scalars, which become registers (an
array would spill), and reads A and B from shared memory in vectors of up to 16 bytes. The sums go
through shared memory once more, a slab of rows at a time, so that the epilogue, which chooses by code,
is there once and touches global memory row by row.

Every output is a sum in the order of k, ``slices`` threads' sums (each over its share of every slice)
added in their order; it depends on the tile's shape, so that one is chosen from the plan alone.
"""

from typing import NamedTuple

from .. import codes
from ..codes import DEVICE
from .device import ALIGNED

THIS = f"{DEVICE + codes.HEADER} + index * {codes.LAYER_COLUMNS}"


class Tile(NamedTuple):
    """Shape of a block: warps of lanes of threads, each (rows, columns); slices: shares of the depth."""

    depth: int
    warps: tuple
    lanes: tuple
    thread: tuple
    slices: int = 1
    unroll: int = 1
    resident: int = 1

    @property
    def rows(self):
        return self.warps[0] * self.lanes[0] * self.thread[0]

    @property
    def columns(self):
        return self.warps[1] * self.lanes[1] * self.thread[1]

    @property
    def each(self):
        """Threads of a slice."""
        return self.warps[0] * self.warps[1] * self.lanes[0] * self.lanes[1]

    @property
    def threads(self):
        return self.each * self.slices


class Source:
    """Lines of a function, indented."""

    def __init__(self):
        self.lines, self.level = [], 0

    def __call__(self, *lines):
        self.lines += ["    " * self.level + line for line in lines]

    def text(self):
        return "\n".join(self.lines) + "\n"


def _place(index):
    return f"table[{DEVICE + index}]"


def _late(column):
    return f"load1(table, this + {column})"


class _Operand:
    """A or B: from global memory into registers, from there into shared memory, from there to the sums.

    across: it lies in memory as shared memory wants it, a row for each k; else transposed on the way.
    Vectors may reach into padding, which is 0 everywhere and never written.
    """

    def __init__(self, name, tile, vector, size, across):
        self.name, self.tile, self.vector, self.size, self.across = name, tile, vector, size, across
        # a transposed row is one vector longer: fewer threads meet in one bank
        self.row = size if across else size + 4
        self.per = (size if across else tile.depth) // vector  # vectors of a row in global memory
        self.count = size * tile.depth // vector // tile.threads
        if self.count * vector * tile.threads != size * tile.depth or tile.threads % self.per:
            raise ValueError(f"tile: {tile} does not share {size} x {tile.depth} evenly")
        self.apart = tile.threads // self.per  # rows between two of a thread's vectors

    @property
    def space(self):
        return self.row * self.tile.depth

    def parts(self, i):
        return [f"{self.name}{i}_{j}" for j in range(self.vector)]

    def begin(self, s):
        """Where this thread's vectors lie: the first one's, and how far the next one is."""
        n, v = self.name, self.vector
        if self.across:
            s(f"{n}_k, {n}_x = tid // {self.per}, {n}_first + tid % {self.per} * {v}")
            s(f"{n}_from = {n}_base + {n}_k * {n}_ld + {n}_x")
            s(f"{n}_to = {n}_space + {n}_k * {self.row} + tid % {self.per} * {v}")
        else:
            s(f"{n}_k, {n}_x = tid % {self.per} * {v}, {n}_first + tid // {self.per}")
            s(f"{n}_from = {n}_base + {n}_x * {n}_ld + {n}_k")
            s(f"{n}_to = {n}_space + {n}_k * {self.row} + tid // {self.per}")
        s(f"{n}_jump = {self.apart} * {n}_ld")
        # what is left from here on, of the sum and across: fewer numbers to keep than place and end
        s(f"{n}_left, {n}_room = depth - {n}_k, {n}_limit - {n}_x")

    def fetch(self, s):
        """Registers = vectors of the next slice, 0 outside; moves on."""
        n = self.name
        for i in range(self.count):
            parts, at = self.parts(i), f"{n}_from" if self.across else f"{n}_from + {i} * {n}_jump"
            k, x = (i * self.apart, 0) if self.across else (0, i * self.apart)
            s(f"if {n}_left > {k} and {n}_room > {x}:")
            s(f"    {', '.join(parts)} = load{self.vector}(mem, {at})")
            s("else:", *(f"    {p} = zero" for p in parts))
            if self.across:  # the last of these steps leads into the next slice
                s(f"{n}_from += {n}_jump")
        if not self.across:
            s(f"{n}_from += {self.tile.depth}")
        s(f"{n}_left -= {self.tile.depth}")

    def put(self, s, buffer):
        """Shared memory = registers."""
        n = self.name
        for i in range(self.count):
            parts = self.parts(i)
            at = f"{n}_to + {buffer} * {self.space} + {i * self.apart * (self.row if self.across else 1)}"
            if self.across:
                s(f"store{self.vector}(shared, {at}, {', '.join(parts)})")
            else:
                s(*(f"store1(shared, {at} + {j * self.row}, {p})" for j, p in enumerate(parts)))


def _groups(tile, vector, way):
    """(numbers of a thread that lie side by side, how many such groups, elements between them).

    All threads' first groups lie together, then all second ones: the epilogue's slabs are whole rows.
    """
    side = min(vector, tile.thread[way])
    return side, tile.thread[way] // side, tile.warps[way] * tile.lanes[way] * side


def write(name, arguments, tile, vector, operands, parts, bias=False):
    """Source of a kernel.

    parts: three lists of lines. The first sets a_base, a_ld, a_first, a_limit, the same for b, and depth,
    and returns where a block has nothing to do. The second is what the epilogue needs, read after the sums:
    it would hold registers until then. The third is the epilogue, with the sum as ``total``, its place as
    m, n (of the output); ``m < rows and n < columns`` is already checked. bias: also sum B's rows.
    """
    (a, b), (begin, middle, epilogue) = operands, parts
    if bias and tile.threads < tile.columns:
        raise ValueError(f"tile: {tile} has fewer threads than columns, whose bias they sum")
    s = Source()
    s(f"def {name}({arguments}):")
    s.level = 1
    side_m, groups_m, apart_m = _groups(tile, vector, 0)
    side_n, groups_n, apart_n = _groups(tile, vector, 1)
    slab = tile.rows // groups_m
    size = max(2 * (a.space + b.space), tile.slices * slab * tile.columns)
    s(f"shared = cuda.shared.array({size}, number_type{ALIGNED})")
    s("tid = cuda.threadIdx.x")
    s(*begin)
    s("a_space = 0", f"b_space = {2 * a.space}")
    a.begin(s), b.begin(s)
    lanes = tile.lanes[0] * tile.lanes[1]
    s(f"part_k = tid // {tile.each}", f"lane = tid % {lanes}", f"warp = tid % {tile.each} // {lanes}")
    s(f"warp_m = warp // {tile.warps[1]}", f"warp_n = warp % {tile.warps[1]}")
    s(f"lane_m = lane // {tile.lanes[1]}", f"lane_n = lane % {tile.lanes[1]}")
    s(f"own_m = (warp_m * {tile.lanes[0]} + lane_m) * {side_m}")
    s(f"own_n = (warp_n * {tile.lanes[1]} + lane_n) * {side_n}")
    sums = {(m, n): f"s{m}_{n}" for m in range(tile.thread[0]) for n in range(tile.thread[1])}
    s(*(f"{x} = zero" for x in sums.values()))
    if bias:
        s("below = zero")
    a.fetch(s), b.fetch(s)
    a.put(s, "0"), b.put(s, "0")
    s("cuda.syncthreads()", f"turns = (depth + {tile.depth - 1}) // {tile.depth}")
    s("for turn in range(turns):")
    s.level += 1
    a.fetch(s), b.fetch(s)  # after the last one: nothing is left, nothing is read
    part_depth = tile.depth // tile.slices
    s(f"a_at = a_space + (turn & 1) * {a.space} + part_k * {part_depth * a.row} + own_m")
    s(f"b_at = b_space + (turn & 1) * {b.space} + part_k * {part_depth * b.row} + own_n")
    s(f"for step in range({part_depth // tile.unroll}):")
    s.level += 1
    for u in range(tile.unroll):
        for prefix, operand, side, groups, apart in (
            ("x", a, side_m, groups_m, apart_m),
            ("y", b, side_n, groups_n, apart_n),
        ):
            for g in range(groups):
                parts = ", ".join(f"{prefix}{u}_{g * side + j}" for j in range(side))
                s(f"{parts} = load{side}(shared, {operand.name}_at + {u * operand.row + g * apart})")
        s(*(f"{x} = fma(x{u}_{m}, y{u}_{n}, {x})" for (m, n), x in sums.items()))
    s(f"a_at += {tile.unroll * a.row}", f"b_at += {tile.unroll * b.row}")
    s.level -= 1
    if bias:
        s(f"if tid < {tile.columns}:", f"    for step in range({tile.depth}):")
        s(f"        below += load1(shared, b_space + (turn & 1) * {b.space} + step * {b.row} + tid)")
    a.put(s, "((turn + 1) & 1)"), b.put(s, "((turn + 1) & 1)")
    s("cuda.syncthreads()")
    s.level -= 1
    s(*middle)
    per = slab * tile.columns
    for g in range(groups_m):
        if g:
            s("cuda.syncthreads()")
        s(f"at = part_k * {per} + own_m * {tile.columns} + own_n")
        for i in range(side_m):
            for h in range(groups_n):
                row = [sums[g * side_m + i, h * side_n + j] for j in range(side_n)]
                s(f"store{side_n}(shared, at + {i * tile.columns + h * apart_n}, {', '.join(row)})")
        s("cuda.syncthreads()")
        s("e = tid", f"while e < {per}:")
        s.level += 1
        s(f"m, n = a_first + {g * slab} + e // {tile.columns}, b_first + e % {tile.columns}")
        s("if m < a_limit and n < b_limit:")
        s.level += 1
        s("total = load1(shared, e)")
        s(*(f"total += load1(shared, e + {k * per})" for k in range(1, tile.slices)))
        s(*epilogue)
        s.level -= 1
        s(f"e += {tile.threads}")
        s.level -= 1
    return s


def forward(name, tile, vector):
    """a = f(x @ w + b)."""
    begin = [
        f"this = {THIS}",
        f"a_base, a_ld = table[this + {codes.L_X}], table[this + {codes.L_LDX}]",
        f"b_base, b_ld = table[this + {codes.L_W}], table[this + {codes.L_LDW}]",
        f"a_limit, b_limit = table[{codes.G_ROWS}], table[this + {codes.L_FAN_OUT}]",
        f"depth = table[this + {codes.L_FAN_IN}]",
        f"a_first, b_first = cuda.blockIdx.x * {tile.rows}, cuda.blockIdx.y * {tile.columns}",
        "if a_first >= a_limit:",
        "    return",
    ]
    middle = [
        # read anew, plainly: what would be kept over the sums, places in the table too, would be spilled
        f"w, depth, ldw = {_late(codes.L_W)}, {_late(codes.L_FAN_IN)}, {_late(codes.L_LDW)}",
        f"bias, a_limit, b_limit = w + depth * ldw, load1(table, {codes.G_ROWS}), {_late(codes.L_FAN_OUT)}",
        f"code, keep = {_late(codes.L_ACTIVATION)}, load1(table, {codes.G_MODE}) <= {codes.GRADIENTS}",
        f"stored = {' or '.join(f'code == {c}' for c in codes.STORED)}",
        f"out, ld, kept = {_late(codes.L_A)}, {_late(codes.L_LDA)}, {_late(codes.L_DELTA)}",
    ]
    epilogue = [
        "z = total + load1(mem, bias + n)",
        "if stored:",
        "    value, derivative = activate_stored(code, z)",
        "    if keep:",
        "        store1(mem, kept + m * ld + n, derivative)",
        "else:",
        "    value = activate(code, z)",
        "store1(mem, out + m * ld + n, value)",
    ]
    operands = (
        _Operand("a", tile, vector, tile.rows, False),
        _Operand("b", tile, vector, tile.columns, True),
    )
    return write(name, "mem, table, index", tile, vector, operands, (begin, middle, epilogue))


def backward(name, tile, vector):
    """delta below = (delta @ w.T) * f'."""
    begin = [
        f"this = {THIS}",
        f"a_base, a_ld = table[this + {codes.L_DELTA}], table[this + {codes.L_LDA}]",
        f"b_base, b_ld = table[this + {codes.L_W}], table[this + {codes.L_LDW}]",
        f"a_limit, b_limit = table[{codes.G_ROWS}], table[this + {codes.L_FAN_IN}]",
        f"depth = table[this + {codes.L_FAN_OUT}]",
        f"a_first, b_first = cuda.blockIdx.x * {tile.rows}, cuda.blockIdx.y * {tile.columns}",
        "if a_first >= a_limit:",
        "    return",
    ]
    middle = [
        f"below = this - {codes.LAYER_COLUMNS}",
        f"code = table[below + {codes.L_ACTIVATION}]",
        f"stored = {' or '.join(f'code == {c}' for c in codes.STORED)}",
        f"a_out, out, ld = table[below + {codes.L_A}], table[below + {codes.L_DELTA}], "
        f"table[below + {codes.L_LDA}]",
    ]
    epilogue = [
        "if stored:",
        "    factor = load1(mem, out + m * ld + n)",
        "else:",
        "    factor = slope(code, load1(mem, a_out + m * ld + n))",
        "store1(mem, out + m * ld + n, total * factor)",
    ]
    operands = (
        _Operand("a", tile, vector, tile.rows, False),
        _Operand("b", tile, vector, tile.columns, False),
    )
    return write(name, "mem, table, index", tile, vector, operands, (begin, middle, epilogue))


def update(name, tile, vector):
    """w, slots = step(x.T @ delta), the bias's gradient the sum of delta: all layers' tiles in one grid.

    Block y sums the y-th of G_PARTS parts of the batch; where there are several each leaves its sum in
    an array of its own, for ``apply`` to add up.
    """
    begin = [
        f"if table[{codes.G_STOPPED}] != 0:",
        "    return",
        "number = cuda.blockIdx.x",
        f"this = {DEVICE + codes.HEADER - codes.LAYER_COLUMNS}",
        "tiles, across = 0, 1",
        "while number >= tiles:",  # of the layers that train
        "    number -= tiles",
        f"    this += {codes.LAYER_COLUMNS}",
        f"    across = (table[this + {codes.L_FAN_OUT}] + {tile.columns - 1}) // {tile.columns}",
        f"    tiles = across * ((table[this + {codes.L_FAN_IN}] + {tile.rows - 1}) // {tile.rows})",
        f"    if table[this + {codes.L_FROZEN}] != 0:",
        "        tiles = 0",
        f"a_base, a_ld = table[this + {codes.L_X}], table[this + {codes.L_LDX}]",
        f"b_base, b_ld = table[this + {codes.L_DELTA}], table[this + {codes.L_LDA}]",
        f"a_limit, b_limit = table[this + {codes.L_FAN_IN}], table[this + {codes.L_FAN_OUT}]",
        f"a_first, b_first = number // across * {tile.rows}, number % across * {tile.columns}",
        f"parts, part = table[{codes.G_PARTS}], cuda.blockIdx.y",
        f"each = (table[{codes.G_ROWS}] + parts - 1) // parts",
        f"depth = min(each, table[{codes.G_ROWS}] - part * each)",  # 0 or less: a part without rows
        "a_base += part * each * a_ld",
        "b_base += part * each * b_ld",
    ]
    middle = [
        f"size, code = {_place(codes.P_SIZE)}, {_place(codes.P_OPTIMIZER)}",
        f"w, ldw = table[this + {codes.L_W}], table[this + {codes.L_LDW}]",
        "slots, stride = size + w, size",
        f"if table[{codes.G_STORE}] != 0:",
        f"    code, slots = table[{codes.G_KEEPS}], table[{codes.G_STORE}] + cuda.blockIdx.y * size + w",
        # those of the layer's weights; the biases' are behind them (updates.constants_of)
        f"number = (this - {DEVICE + codes.HEADER}) // {codes.LAYER_COLUMNS}",
        f"constants = {_place(codes.P_SCRATCH)} + {codes.S_CONSTANTS} "
        f"+ (2 * number + 1) * table[{codes.G_APART}]",
    ]
    step = "update(code, {g}, mem, table, w + {at}, slots + {at}, stride, constants{more})"
    epilogue = ["at = m * ldw + n", step.format(g="total", at="at", more="")]
    operands = (
        _Operand("a", tile, vector, tile.rows, True),
        _Operand("b", tile, vector, tile.columns, True),
    )
    s = write(name, "mem, table", tile, vector, operands, (begin, middle, epilogue), bias=True)
    s("n = b_first + tid", f"if a_first == 0 and tid < {tile.columns} and n < b_limit:")
    apart = f" + table[{codes.G_APART}]"
    s("    at = a_limit * ldw + n", "    " + step.format(g="below", at="at", more=apart))
    return s
