# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Kernels for the processor at hand: paddle's MKL takes slow ones on AMD unless it is told."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

CPU = Path("/proc/cpuinfo")
KERNELS = "MKL_DEBUG_CPU_TYPE"
AVX2 = "5"


def use_fast_kernels(environment: MutableMapping[str, str], cpu: str) -> None:
    """Have MKL take its AVX2 kernels on an AMD processor that has AVX2 and FMA.

    ``cpu`` is the text of /proc/cpuinfo. The MKL in paddle 3.3 takes kernels for processors of 2006
    where the maker is not Intel: a matrix product then takes three to four times as long. It reads
    ``environment`` when it is loaded, so this comes before paddle; a value that is there stays.
    """
    flags = set(cpu.split())
    if {"AuthenticAMD", "avx2", "fma"} <= flags:
        environment.setdefault(KERNELS, AVX2)


def cpu_text() -> str:
    """The text of /proc/cpuinfo; empty where there is none."""
    try:
        return CPU.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
