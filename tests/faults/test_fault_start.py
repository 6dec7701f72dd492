# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A service that finds its Milvus Lite, or its port, in use by another says so."""

from __future__ import annotations

import pytest
from forked_service import ForkedService

pytestmark = pytest.mark.slow


def test_two_services_on_one_milvus_lite(folder, tmp_path):
    uri = str(tmp_path / "milvus.db")
    environment = folder.environment(uri, timeout=10.0)
    with ForkedService(environment, tmp_path / "log") as first:
        first.insert()
        with ForkedService(environment, tmp_path / "second") as second:
            assert second.status("/readyz") == 503
            answer = second.http.post("/candidates", json={"hist_item": [[3]], "top_k": 5}).json()
            assert answer["source"] == ["fallback"]
            refused = second.http.post("/insert")
            assert refused.status_code == 503
            assert "in use by another process" in refused.text
            log = second.log.read_text()
            assert f"Milvus Lite's {uri} is in use by another process" in log
            assert "Traceback" not in log
        assert first.lists() == folder.lists(0)


def test_a_port_in_use(folder, tmp_path):
    environment = folder.environment(str(tmp_path / "milvus.db"))
    with ForkedService(environment, tmp_path / "log") as first:
        second = ForkedService(folder.environment(str(tmp_path / "other.db")), tmp_path / "second")
        second.port = first.port
        assert second.run_to_its_end() != 0
        second.http.close()
        log = second.log.read_text()
        assert f"('127.0.0.1', {first.port}): address already in use" in log
        assert "Traceback" not in log
        assert first.status("/healthz") == 200
