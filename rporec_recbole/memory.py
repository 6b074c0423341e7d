"""Gives freed memory back to the system.

Training on texts of many lengths frees blocks of many sizes, and glibc keeps them: on ml-100k the resident size of the
warm-up was 3.1 GB of which 2.1 GB were free.
"""

from __future__ import annotations

import ctypes
import sys


def release_freed_memory() -> None:
    """Asks glibc to return what nobody uses; does nothing on other C libraries."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
