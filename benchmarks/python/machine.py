"""The machine and the software that a result belongs to."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import bnpp

CPU = Path("/sys/devices/system/cpu/cpu0")


def describe() -> dict[str, Any]:
    """Describe what may matter for times, without naming the machine."""
    config = bnpp.show_config(mode="dicts")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "huge_pages": _read(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": _versions("bnpp", "numpy", "torch", "jax", "tensorflow"),
        **{k: v for k, v in config.items() if k not in ("bnpp", "numpy")},
    }


def _cpu() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _caches() -> list[str]:
    """List them as "L2 Unified 1024K, for cores 0-1"."""
    return [
        f"L{_read(c / 'level')} {_read(c / 'type')} {_read(c / 'size')}, "
        f"for cores {_read(c / 'shared_cpu_list')}"
        for c in sorted(CPU.glob("cache/index*"))
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _versions(*names: str) -> dict[str, str]:
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
