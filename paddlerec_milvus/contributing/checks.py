# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The contract of a model folder as a list of checks, cheap ones first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from paddlerec_milvus.contributing import (
    folder_checks,
    reader_checks,
    retrieval_checks,
    tower_checks,
    training_checks,
)
from paddlerec_milvus.contributing.check_results import Check, CheckResult, run_checks
from paddlerec_milvus.contributing.trial import Trial

WHOLE, KEYS = "the folder is whole", "every key is read"
TRAINS, REPEATS, LOADS = "trains", "the same seed, the same bits", "checkpoints load"
SHAPES = "vectors"

CHECKS: tuple[Check, ...] = (
    Check(WHOLE, folder_checks.whole_folder),
    Check(KEYS, folder_checks.keys_are_read, WHOLE),
    Check("the train reader's order", reader_checks.order_of_seed_and_epoch, KEYS),
    Check("the train reader's samples", reader_checks.every_sample_once, KEYS),
    Check("the infer reader's truths", reader_checks.no_truth_cut, KEYS),
    Check(TRAINS, training_checks.trains, KEYS),
    Check(REPEATS, training_checks.repeats_itself, TRAINS),
    Check("resumes", training_checks.resumes, REPEATS),
    Check(LOADS, training_checks.loads, TRAINS),
    Check(SHAPES, tower_checks.shapes, LOADS),
    Check("unit length", tower_checks.unit_length, SHAPES),
    Check("padding", tower_checks.padding_stays_out, SHAPES),
    Check("company in a batch", tower_checks.company_changes_nothing, SHAPES),
    Check("devices", tower_checks.device_changes_nothing, SHAPES),
    Check("evaluates", retrieval_checks.evaluates, TRAINS),
    Check("searches", retrieval_checks.searches, SHAPES),
    Check("serves", retrieval_checks.serves, SHAPES),
    Check("exports", retrieval_checks.exports, SHAPES),
    Check("a collection of its own", folder_checks.own_collection, WHOLE),
    Check("upstream: names", folder_checks.names_as_upstream, WHOLE),
    Check("upstream: imports", folder_checks.allowed_imports, WHOLE),
    Check("upstream: README", folder_checks.readme_sections, WHOLE),
)


def check_folder(
    yaml: Path,
    options: Sequence[str],
    data: Path | None,
    place: Path,
    most_steps: int,
    checks: Sequence[Check] = CHECKS,
) -> Iterator[CheckResult]:
    """Check the folder of ``yaml``; all that is written is in ``place``, an empty folder."""
    return run_checks(checks, Trial(yaml, options, data, place, most_steps))
