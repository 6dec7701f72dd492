# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where model folders and sweeps are: in the checkout, or in the wheel, which carries copies.

A wheel holds ``models/`` and ``benchmarks/sweeps/`` in ``paddlerec_milvus/bundled/``. What such a
yaml writes and reads by relative paths lies where it would lie if the working directory were the
checkout: ``models/recall/mind/output_model_mind``, ``datasets/sample``. Nothing is written beside
an installed package.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
BUNDLED = PACKAGE / "bundled"


def roots() -> list[Path]:
    """The folders that hold ``models/`` and ``benchmarks/sweeps/``, the first one first."""
    return [Path.cwd(), BUNDLED] if BUNDLED.is_dir() else [PACKAGE.parent]


def zoos() -> list[Path]:
    """The folders ``models/`` in which a model of a name is sought, in this order."""
    return [root / "models" for root in roots()]


def base_of(yaml: Path) -> Path:
    """The folder that relative paths of ``yaml`` start from: its own, unless a wheel carries it."""
    folder = yaml.parent
    bundled = folder.is_relative_to(BUNDLED)
    return Path.cwd() / folder.relative_to(BUNDLED) if bundled else folder
