# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""An insert on a full disk: the old version goes on serving, and the answer says what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import pytest
from forked_service import ForkedService

pytestmark = pytest.mark.slow

SMALL = 64 << 10  # bytes; the vectors of an insert take more


@contextlib.contextmanager
def no_space(service: ForkedService) -> Iterator[None]:
    """The service can write no file of more than SMALL bytes, as on a disk with no more left."""
    process = psutil.Process(service.process_id)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (SMALL, before[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, before)


def test_lite_without_space_keeps_the_old_version(folder, tmp_path):
    environment = folder.environment(str(tmp_path / "milvus.db"), timeout=10.0)
    with ForkedService(environment, tmp_path / "log") as service:
        for epoch, place in ((1, "served_faults"), (0, "Milvus")):
            # the first time the model's copy cannot be written, then the vectors cannot
            service.insert()
            folder.put(epoch)
            with no_space(service):
                refused = service.http.post("/insert")
                print(refused.status_code, refused.text)
                assert refused.status_code in (409, 503)
                assert place in refused.text
                assert "File too large" in refused.text
                assert service.lists() == folder.lists(1 - epoch)
        assert service.insert()["inserted"] == 300
        assert service.lists() == folder.lists(0)
