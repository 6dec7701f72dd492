# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``make lint``'s audit of the packages: what it makes of pip-audit's answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from types import ModuleType

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def hole(number: str, *aliases: str) -> dict[str, object]:
    return {"id": number, "aliases": aliases, "fix_versions": ["9"]}


CLEAN = {"name": "numpy", "version": "2", "vulns": []}
SKIPPED = {"name": "scipy", "skip_reason": "not found"}
EXCEPTED = {"name": "paddlepaddle", "version": "3", "vulns": [hole("PYSEC-2022-43063")]}
OPEN = {"name": "jinja2", "version": "3", "vulns": [hole("PYSEC-1", "CVE-1")]}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([CLEAN, EXCEPTED], 0, "pip-audit: 2 packages, 0 holes"),
        ([CLEAN, OPEN], 1, "jinja2 3: PYSEC-1 (CVE-1), mended in 9"),
        ([CLEAN, SKIPPED], 0, "warning: pip-audit could not look at scipy"),
        ([SKIPPED, SKIPPED], 0, "pip-audit DID NOT RUN: the advisories of none"),
        (None, 0, "pip-audit DID NOT RUN: no network"),
    ],
)
def test_an_audit_that_did_not_run_is_no_clean_one(
    audit, monkeypatch, capsys, packages, code, words
):
    said = "" if packages is None else json.dumps({"dependencies": packages})
    ran = subprocess.CompletedProcess([], 1, said, "Traceback\nno network")
    monkeypatch.setattr(audit.subprocess, "run", lambda *arguments, **options: ran)
    assert audit.main() == code
    assert words in capsys.readouterr().out
