"""Machine code of the GPU's kernels on disk, under the digest of all their sources, as jit.py has it.

Compiling those of a network takes 10 to 25 s, loading them milliseconds each. Numba's own key would miss
a change in another file, and hit no kernel whose closure holds other functions.
"""

from numba.cuda.core import caching
from numba.cuda.dispatcher import CUDACache, CUDACacheImpl

from .. import disk
from ..jit import source_digest


class _Stamp:
    def get_source_stamp(self):
        return source_digest("cuda")


class _UserProvided(_Stamp, caching._UserProvidedCacheLocator):
    pass


class _InTree(_Stamp, caching._InTreeCacheLocator):
    pass


class _UserWide(_Stamp, caching._UserWideCacheLocator):
    pass


class _Impl(CUDACacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide]


class _File(disk.Checked, caching.IndexDataCacheFile):
    pass


class _Cache(disk.Kept, CUDACache):
    _impl_class, file_class = _Impl, _File
    more = ""

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), source_digest("cuda") + self.more


def attach(dispatcher, more=""):
    """Keep what this dispatcher compiles; without a writable place it compiles anew in each process.

    more: what it is made from beside the kernels' sources: the definition of a user's function.
    """
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
        dispatcher._cache.more = more
    except RuntimeError:
        pass
    return dispatcher
