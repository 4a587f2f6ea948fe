"""numba.cuda, imported here and nowhere else; what its simulator lacks has a plain twin below.

The simulator (NUMBA_ENABLE_CUDASIM=1, set before the import) runs kernels as Python, a Python thread
for each of the GPU's: it knows no intrinsics, so the same names are ordinary functions there.
"""

import ctypes
import math

import numpy as np
from numba import config, cuda, types

SIMULATED = bool(config.ENABLE_CUDASIM)
LINE = 16  # bytes that one instruction moves at most: 4 floats, 2 doubles
ALIGNED = "" if SIMULATED else f", alignment={LINE}"  # of a shared array; the simulator takes none


def kernel(function, bounds=None, more=""):
    """What the host launches. Compiled when first launched: an earlier signature would need a driver.

    bounds: (threads of a block, blocks that a processor should have room for at once), which limit
    the registers of a thread. more: see cache.attach.
    """
    if SIMULATED:
        return cuda.jit(function)
    from .cache import attach

    return attach(cuda.jit(function, **({} if bounds is None else {"launch_bounds": bounds})), more)


def device(function):
    """What kernels call."""
    return cuda.jit(device=True)(function)


def at_address(pointer, size, dtype, owner, stream=None):
    """(size,) numbers of dtype that lie at an address of the device; owner: keeps them alive.

    stream: what makes them is waited for, here; copies of what comes back do not go by it, so that they are
    done when they return. In the simulator the device is this process's memory.
    """
    if SIMULATED:
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(pointer)
        array = FakeCUDAArray(np.frombuffer(memory, dtype))
        array.owner = owner
        return array
    found = {"shape": (size,), "strides": None, "typestr": dtype.str, "data": (pointer, False),
             "stream": stream, "version": 3}  # fmt: skip
    return cuda.from_cuda_array_interface(found, owner=owner).bind()


if SIMULATED:

    def _on_line(i, count):
        """As the hardware, which takes vectors at multiples of their size only, and no place below 0."""
        if i < 0 or i % count:
            raise IndexError(f"got {count} numbers at {i}, takes a place that they divide")

    def load1(array, i):
        _on_line(i, 1)
        return array[i]

    def load2(array, i):
        _on_line(i, 2)
        return array[i], array[i + 1]

    def load4(array, i):
        _on_line(i, 4)
        return array[i], array[i + 1], array[i + 2], array[i + 3]

    def store1(array, i, a):
        _on_line(i, 1)
        array[i] = a

    def store2(array, i, a, b):
        _on_line(i, 2)
        array[i], array[i + 1] = a, b

    def store4(array, i, a, b, c, d):
        _on_line(i, 4)
        array[i], array[i + 1], array[i + 2], array[i + 3] = a, b, c, d

    def fma(x, y, z):
        return x * y + z

    def maths(dtype):
        """What formulas call, for one dtype."""
        whole = np.int64 if dtype == np.float64 else np.int32

        def bits(x):
            return dtype.type(x).view(whole)

        def from_bits(n):
            return whole(n).view(dtype)

        return {"fma": fma, "sqrt": np.sqrt, "rint": np.rint, "copysign": np.copysign,
                "bits": bits, "from_bits": from_bits}  # fmt: skip

else:
    from llvmlite import ir
    from numba.cuda import libdevice
    from numba.cuda.extending import intrinsic

    def _places(context, builder, kind, data, index, count):
        """(pointer to ``count`` numbers at data[index], their alignment): no bounds, no negative index."""
        place = builder.gep(data, [index])
        size = kind.bitwidth // 8
        if count == 1:
            return place, size
        vector = ir.VectorType(context.get_value_type(kind), count)
        return builder.bitcast(place, vector.as_pointer()), size * count

    def _loads(count):
        @intrinsic
        def load(typingctx, array, i):
            kind = array.dtype
            result = kind if count == 1 else types.UniTuple(kind, count)

            def codegen(context, builder, sig, args):
                data = context.make_array(sig.args[0])(context, builder, args[0]).data
                place, line = _places(context, builder, kind, data, args[1], count)
                value = builder.load(place, align=line)
                if count == 1:
                    return value
                lanes = [ir.Constant(ir.IntType(32), k) for k in range(count)]
                parts = [builder.extract_element(value, lane) for lane in lanes]
                return context.make_tuple(builder, sig.return_type, parts)

            return result(array, types.int64), codegen

        return load

    def _stores(count):
        def code(array, *values):
            kind = array.dtype

            def codegen(context, builder, sig, args):
                data = context.make_array(sig.args[0])(context, builder, args[0]).data
                place, line = _places(context, builder, kind, data, args[1], count)
                value = args[2]
                if count > 1:
                    value = ir.Constant(ir.VectorType(context.get_value_type(kind), count), ir.Undefined)
                    for k, part in enumerate(args[2:]):
                        value = builder.insert_element(value, part, ir.Constant(ir.IntType(32), k))
                builder.store(value, place, align=line)
                return context.get_dummy_value()

            return types.void(array, types.int64, *[kind] * count), codegen

        if count == 1:
            return intrinsic(lambda typingctx, array, i, a: code(array))
        if count == 2:
            return intrinsic(lambda typingctx, array, i, a, b: code(array))
        return intrinsic(lambda typingctx, array, i, a, b, c, d: code(array))

    load1, load2, load4 = _loads(1), _loads(2), _loads(4)
    store1, store2, store4 = _stores(1), _stores(2), _stores(4)

    @device
    def _bits32(x):
        return libdevice.float_as_int(x)

    @device
    def _float32(n):
        return libdevice.int_as_float(np.int32(n))

    @device
    def _bits64(x):
        return libdevice.double_as_longlong(x)

    @device
    def _float64(n):
        return libdevice.longlong_as_double(np.int64(n))

    @device
    def fma(x, y, z):
        return cuda.fma(x, y, z)

    def maths(dtype):
        """What formulas call, for one dtype."""
        long = dtype == np.float64
        return {
            "fma": fma,
            "sqrt": math.sqrt,
            "copysign": math.copysign,
            "rint": libdevice.rint if long else libdevice.rintf,
            "bits": _bits64 if long else _bits32,
            "from_bits": _float64 if long else _float32,
        }


def describe():
    """{"gpu": ..., "driver": ..., "toolkit": ...} for people."""
    if SIMULATED:
        return {"gpu": "simulated (NUMBA_ENABLE_CUDASIM=1)"}
    from cuda.bindings import driver

    card = cuda.get_current_device()
    name = card.name.decode() if isinstance(card.name, bytes) else card.name
    free, total = cuda.current_context().get_memory_info()
    _, version = driver.cuDriverGetVersion()
    major, minor = card.compute_capability
    return {
        "gpu": f"{name}, compute capability {major}.{minor}, {card.MULTIPROCESSOR_COUNT} multiprocessors, "
        f"{total / 2**30:.1f} GiB ({free / 2**30:.1f} free)",
        "driver": f"CUDA {version // 1000}.{version % 1000 // 10}",
        "toolkit": "CUDA {}.{}".format(*cuda.runtime.get_version()),
    }
