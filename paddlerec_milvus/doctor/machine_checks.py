# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checks of the machine: processor, memory, disk, Python and a working directory to write to."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import psutil

from paddlerec_milvus.doctor.finding import Finding
from paddlerec_milvus.evaluation.report import CPU, machine

GIB = 2**30
LEAST_MEMORY, PLENTY_OF_MEMORY = 1 * GIB, 2 * GIB  # paddle alone takes half a GiB
LEAST_DISK, PLENTY_OF_DISK = GIB // 5, 2 * GIB
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def processor() -> Finding:
    """Cores that this process may use, and the vector instructions that speed depends on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = f"{machine()['processor']}, {usable} of {os.cpu_count()} cores to use"
    flags = _flags()
    if platform.machine() not in ("x86_64", "AMD64") or not flags:
        return Finding("ok", "processor", f"{words}, {platform.machine()}")
    if "avx" not in flags:
        return Finding(
            *("wrong", "processor", f"{words}, without AVX"),
            "paddle's packages need a processor with AVX: take another machine, or in a virtual "
            "one pass the host's processor through (cpu: host)",
        )
    level = next((name for name in ("avx512f", "avx2") if name in flags), "avx")
    names = {"avx512f": "AVX-512", "avx2": "AVX2, no AVX-512", "avx": "AVX, no AVX2"}
    remedy = (
        ""
        if level == "avx512f"
        else ("nothing to do: training ends at other last digits than on a machine with AVX-512")
    )
    return Finding("note" if remedy else "ok", "processor", f"{words}, {names[level]}", remedy)


def _flags() -> set[str]:
    """The processor's features as Linux names them; empty where it is not Linux."""
    try:
        lines = CPU.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def memory() -> Finding:
    """Memory that is free, within the limit of a container."""
    state = psutil.virtual_memory()
    free, total = state.available, state.total
    limit = next((size for size in map(_limit, CGROUP_LIMITS) if size), total)
    words = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"
    if limit < total:
        words += f", and a limit of {limit / GIB:.1f} GiB"
    remedy = (
        "close other programs, raise the container's limit, or take a smaller catalogue and "
        "hyper_parameters.embedding_dim; a Milvus server on this machine takes another 0.5 GiB"
    )
    return _by_size("memory", min(free, limit), LEAST_MEMORY, PLENTY_OF_MEMORY, words, remedy)


def _limit(file: Path) -> int:
    """Bytes that a container may use; 0: no limit, or none that can be read."""
    try:
        text = file.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def disk(folder: Path) -> Finding:
    """Room for data, checkpoints and Milvus Lite's files."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("wrong", "disk", f"{folder}: {error.strerror}", "work in another folder")
    words = f"{free / GIB:.1f} GiB free at {folder}"
    remedy = "make room, or work in a folder of a larger disk"
    return _by_size("disk", free, LEAST_DISK, PLENTY_OF_DISK, words, remedy)


def _by_size(subject: str, size: int, least: int, plenty: int, words: str, remedy: str) -> Finding:
    if size >= plenty:
        return Finding("ok", subject, words)
    return Finding("wrong" if size < least else "note", subject, words, remedy)


def working_directory(folder: Path) -> Finding:
    """Whether what the commands write can be written: data, checkpoints, reports."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
            file.flush()
    except OSError as error:
        return Finding(
            *("wrong", "working directory", f"{folder}: {error.strerror}"),
            "go to a folder that you may write to: data, models and reports are put there",
        )
    return Finding("ok", "working directory", f"{folder}: can be written")


def python() -> Finding:
    """Python and the system that it runs on."""
    version, system = platform.python_version(), platform.system()
    words = f"{version} ({sys.executable}) on {platform.platform()}"
    if system == "Windows":
        remedy = "use Linux: on Windows, in WSL or a container"
        return Finding("wrong", "Python", words, remedy)
    if system != "Linux":
        remedy = "nothing to do; the tests run on Linux alone"
        return Finding("note", "Python", words, remedy)
    return Finding("ok", "Python", words)
