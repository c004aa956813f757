"""Memory of a long process on CPUs: what malloc keeps (glibc), and the kernels that matrix products keep (oneDNN).

Every forward and backward pass frees and takes again the same gigabytes of activations. By default glibc returns such
blocks to the kernel, which must then clear every page again: on two CPU cores that can take half of a training step.
The price is a resident size that stays at its peak, until `give_back_memory` is called between two stages.

oneDNN, which multiplies matrices in bf16, compiles a kernel for every shape. It keeps the last 1,024, and PyTorch keeps
the last 1,024 of its own objects around them, a megabyte or more each. Packed rows of texts hardly ever have the
same length again, so that little of an earlier step is used again and the process grows by gigabytes
(`benchmarks/results/memory.json`). Within one step the layers do share shapes; 64 kernels are enough for that.
"""

import ctypes
import gc
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's parameters, from malloc.h


KERNELS = 64
"""Compiled kernels that are kept: about twice the matrix shapes of one training step."""

_CAPACITIES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's own cache, and PyTorch's (ideep)


def bound_kernel_caches() -> None:
    """Keep at most `KERNELS` compiled kernels, unless the environment says otherwise.

    Both caches read their variable when the first kernel is compiled: afterwards this changes nothing.
    """
    for variable in _CAPACITIES:
        os.environ.setdefault(variable, str(KERNELS))


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to serve all sizes from its heap and not to trim it. False if there is no glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = (mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 256 << 20))
    return all(done)


def give_back_memory() -> None:
    """Collect garbage (trainers hold their models in cycles) and return what is free to the kernel."""
    gc.collect()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # another libc frees as it sees fit
            return
