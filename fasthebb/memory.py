"""Peak resident memory of this process, since a moment of one's choice where the system allows it."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Give free memory back and set the high-water mark to what is resident now; False where the system cannot."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        _CLEAR.write_text("5")
        return peak_bytes() <= resident_bytes() + 2**20
    except (OSError, AttributeError, KeyError):
        return False


def resident_bytes() -> int:
    """Resident memory in bytes (Linux)."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Largest resident memory in bytes since `reset_peak`, or since the process began where it cannot be reset."""
    try:
        return _status("VmHWM")
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values[field].split()[0]) * 1024
