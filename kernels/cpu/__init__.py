"""CPU kernels: SIMD tiles written as LLVM IR, and one parallel program over flat arenas."""
