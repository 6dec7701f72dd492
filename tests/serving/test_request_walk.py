# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Who wants to know what a request does need not read many files."""

from __future__ import annotations

from request_walk import ROUTER, walk_of

# fair_queue.py, callers.py, the deadline of settings.py, items that were deleted, the probe's
# sample, titles, hits as arrays
MOST_FILES = 18


def test_a_request_for_candidates_enters_few_files(make_settings):
    walk = walk_of(make_settings(check_seconds=600.0))
    files = list(walk.files)
    assert files[0] == ROUTER
    assert "paddlerec_milvus/retrieval/connection.py" in files
    assert len(files) <= MOST_FILES, files
    assert walk.model
