# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Checks of packages: versions against what setup.cfg asks for, and whether paddle computes."""

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
    "train": "to train, and to use what was trained",
    "serve": "to serve",
    "server": "for a Milvus server by the subcommand milvus",
    "bench": "for bench, tune and the baseline ALS",
    "redis": "for histories in Redis",
    "spark": "for prepare.py --engine spark",
}
IN_PLACE_OF = {"paddlepaddle": "paddlepaddle-gpu"}  # either brings the module
PADDLE = "import paddle; print(float(paddle.ones([2]).sum()), paddle.device.get_device())"
PADDLE_SECONDS = 120


def packages() -> Iterator[Finding]:
    """A finding for each package that is always needed, then one for each extra."""
    try:
        requirements = [Requirement(line) for line in requires(PROGRAM) or ()]
        yield Finding("ok", PROGRAM, version(PROGRAM))
    except PackageNotFoundError:
        yield Finding(
            *("wrong", PROGRAM, "runs from its files and is not installed"),
            "pip install -e '.[train]' in its checkout, or pip install the wheel",
        )
        return
    core = [one for one in requirements if _belongs(one, "")]
    yield from map(_package, core)
    for extra, use in EXTRAS.items():
        own = [one for one in _of_extra(requirements, extra) if one not in core]
        if own:  # not an extra that the installed metadata, of a version before, lacks
            yield from _extra(extra, use, own)


def _of_extra(requirements: list[Requirement], extra: str) -> list[Requirement]:
    """Those of ``extra``, with those of the extras that it names."""
    own = [one for one in requirements if _belongs(one, extra)]
    named = [name for one in own if one.name == PROGRAM for name in one.extras]
    return [one for one in own if one.name != PROGRAM] + [
        one for name in named for one in _of_extra(requirements, name)
    ]


def _belongs(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(name: str) -> str:
    """The version of a package, or of what may stand in its place; empty: neither is there."""
    for one in (name, IN_PLACE_OF.get(name, name)):
        try:
            return version(one)
        except PackageNotFoundError:
            continue
    return ""


def _package(requirement: Requirement) -> Finding:
    """Whether one package is there in a version that is asked for."""
    name, own, range_ = requirement.name, _installed(requirement.name), requirement.specifier
    words = f"{own or 'not installed'} ({range_ or 'any'})"
    if own and range_.contains(own, prereleases=True):
        return Finding("ok", name, words)
    return Finding("wrong", name, words, f"pip install '{name}{range_}'")


def _extra(extra: str, use: str, requirements: list[Requirement]) -> Iterator[Finding]:
    """One line for an extra, and one for each of its packages in a version that does not do."""
    versions = {one.name: _installed(one.name) for one in requirements}
    missing = [name for name, own in versions.items() if not own]
    if missing:
        remedy = f"{use}: pip install '{PROGRAM}[{extra}]'"
        yield Finding("note", f"[{extra}]", f"not installed: {', '.join(missing)}", remedy)
    else:
        yield Finding("ok", f"[{extra}]", ", ".join(f"{n} {own}" for n, own in versions.items()))
    for finding in map(_package, requirements):
        if finding.state == "wrong" and finding.subject not in missing:
            yield finding


def paddle() -> Finding | None:
    """Whether paddle computes, in a process of its own, which it may end; None: not installed."""
    if not _installed("paddlepaddle"):
        return None
    remedy = (
        f"install it again: pip install --force-reinstall '{PROGRAM}[train]'; it needs an x86 "
        "processor with AVX, or ARM"
    )
    subject, command = "paddle runs", [sys.executable, "-c", PADDLE]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PADDLE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("wrong", subject, f"no answer within {PADDLE_SECONDS} s", remedy)
    if done.returncode == 0 and done.stdout.startswith("2.0 "):
        return Finding("ok", subject, f"it computes on {done.stdout.split()[-1]}")
    reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if done.returncode < 0:
        reason = f"ended by {signal.Signals(-done.returncode).name}"
    return Finding("wrong", subject, reason, remedy)
