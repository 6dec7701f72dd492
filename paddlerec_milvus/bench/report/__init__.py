# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows of a run → a report (HTML, Markdown, PNG, CSV, JSON); two runs side by side."""

from paddlerec_milvus.bench.report.compare_document import compare
from paddlerec_milvus.bench.report.write import write_report

__all__ = ["compare", "write_report"]
