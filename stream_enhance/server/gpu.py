"""Memory in use on each NVIDIA GPU, as the driver's own library (NVML) reports it."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def memory() -> list[tuple[int, int]]:
    """(used, total) bytes of each GPU; none where there is no NVIDIA driver."""
    library = _library()
    if library is None:
        return []
    count = ctypes.c_uint()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = []
    for index in range(count.value):
        handle, usage = ctypes.c_void_p(), _Memory()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if not library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(usage)):  # 0 is success
            found.append((usage.used, usage.total))
    return found


@cache
def _library() -> Any:
    for name in ("libnvidia-ml.so.1", "nvml.dll"):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if not library.nvmlInit_v2():
            return library
    return None
