# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The synthetic log of Amazon Books' size that the speed benchmarks share."""

from __future__ import annotations

import sys
from pathlib import Path

from paddlerec_milvus.data.cli import main as prepare

USERS, ITEMS, CLICKS = 603_668, 367_982, 8_900_000
ARGUMENTS = ["--users", str(USERS), "--items", str(ITEMS), "--clicks", str(CLICKS)]


def full_size_sample(work: Path) -> Path:
    """``work/sample``, prepared where it is not there yet; a failure ends the program."""
    sample = work / "sample"
    if prepare(["--sample", *ARGUMENTS, "--out", str(sample)]):
        sys.exit(2)
    return sample
