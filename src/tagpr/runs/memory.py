"""Keep freed memory in the process instead of giving it back to the kernel (glibc).

Every forward and backward pass frees and takes again the same gigabytes of activations. By default glibc returns such
blocks to the kernel, which must then clear every page again: on two CPU cores that can take half of a training step.
The price is a resident size that stays at its peak, until `give_back_memory` is called between two stages.
"""

import ctypes
import gc
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt's parameters, from malloc.h


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to serve all sizes from its heap and not to trim it. False where there is no glibc."""
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
