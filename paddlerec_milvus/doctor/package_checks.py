# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checks of the packages: their versions against what setup.cfg asks for, and whether paddle runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from paddlerec_milvus.doctor.finding import Finding
from paddlerec_milvus.subcommands import PROGRAM

EXTRAS = {
    "train": "train, and use what was trained",
    "serve": "serve",
    "server": "a Milvus server by the subcommand milvus",
    "bench": "bench, tune, and the baseline ALS",
    "redis": "histories in Redis",
}
# either brings the module
IN_PLACE_OF = {"paddlepaddle": "paddlepaddle-gpu"}
PADDLE = "import paddle; print(float(paddle.ones([2]).sum()), paddle.device.get_device())"
PADDLE_SECONDS = 120


def packages() -> Iterator[Finding]:
    """A finding for each package that is always needed, then one for each extra."""
    try:
        asked = [Requirement(line) for line in requires(PROGRAM) or ()]
    except PackageNotFoundError:
        yield Finding(
            *("wrong", PROGRAM, "runs from its files and is not installed"),
            "pip install -e '.[train]' in its checkout, or pip install the wheel",
        )
        return
    yield Finding("ok", PROGRAM, version(PROGRAM))
    for requirement in asked:
        if _wanted(requirement, "") and (finding := _package(requirement)):
            yield finding
    for extra, use in EXTRAS.items():
        own = [one for one in asked if _wanted(one, extra) and not _wanted(one, "")]
        yield from _extra(extra, use, own)


def _wanted(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(requirement: Requirement) -> str:
    """The version of a package, or of what may stand in its place; empty: neither is there."""
    for name in (requirement.name, IN_PLACE_OF.get(requirement.name, "")):
        try:
            return version(name) if name else ""
        except PackageNotFoundError:
            continue
    return ""


def _package(requirement: Requirement) -> Finding:
    """Whether one package is there in a version that is asked for."""
    own = _installed(requirement)
    wanted = f"{requirement.name}{requirement.specifier}"
    if own and requirement.specifier.contains(own, prereleases=True):
        return Finding("ok", requirement.name, f"{own} ({requirement.specifier})")
    words = f"{own or 'not installed'} ({requirement.specifier})"
    return Finding("wrong", requirement.name, words, f"pip install '{wanted}'")


def _extra(extra: str, use: str, asked: list[Requirement]) -> Iterator[Finding]:
    """One line for an extra, and one for each of its packages in a version that does not do."""
    missing = [one.name for one in asked if not _installed(one)]
    wrong = [finding for finding in map(_package, asked) if finding.state == "wrong"]
    yield from (finding for finding in wrong if finding.subject not in missing)
    if missing:
        yield Finding(
            *("note", f"[{extra}]", f"not installed: {', '.join(missing)}"),
            f"to {use}: pip install '{PROGRAM}[{extra}]'" if extra in ("train", "serve")
            else f"for {use}: pip install '{PROGRAM}[{extra}]'",
        )
    else:
        yield Finding("ok", f"[{extra}]", ", ".join(f"{a.name} {_installed(a)}" for a in asked))


def paddle() -> Finding | None:
    """Whether paddle computes, in a process of its own, which it may end; None: not installed."""
    if not _installed(Requirement("paddlepaddle")):
        return None
    remedy = (
        f"install it again: pip install --force-reinstall '{PROGRAM}[train]'; on an old processor "
        "or system see the table of paddlepaddle.org.cn/install"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", PADDLE],
            capture_output=True,
            text=True,
            timeout=PADDLE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("wrong", "paddle runs", f"no answer within {PADDLE_SECONDS} s", remedy)
    if done.returncode == 0 and done.stdout.startswith("2.0 "):
        return Finding("ok", "paddle runs", f"it computes on {done.stdout.split()[-1]}")
    reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode < 0:
        reason = f"ended by {signal.Signals(-done.returncode).name}"
    return Finding("wrong", "paddle runs", reason, remedy)
