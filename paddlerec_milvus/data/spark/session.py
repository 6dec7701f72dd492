# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The session of Spark in which a log is prepared, and its failures in a user's words."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from paddlerec_milvus.errors import DataError, MissingPackageError, SettingsError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MISSING = "--engine spark needs the extra [spark]: pip install 'paddlerec-milvus[spark]'"
_CAUSE = re.compile(r"Caused by: |[A-Za-z_][\w.]*(Error|Interrupt): ")
_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.mergeSchema": "false",
    "spark.sql.maxMetadataStringLength": "1000",
}


def require_pyspark() -> None:
    """MissingPackageError: the extra is not installed."""
    try:
        import pyspark  # noqa: F401
    except ModuleNotFoundError:
        raise MissingPackageError(_MISSING) from None


@contextmanager
def spark_session() -> Iterator[SparkSession]:
    """A session with settings of its own; the master is the one that spark-submit, the file
    spark-defaults.conf or PYSPARK_SUBMIT_ARGS names, all cores of this machine without them.

    Raises:
        MissingPackageError: pyspark is not installed.
        SettingsError: Spark does not start.
    """
    require_pyspark()
    from pyspark.errors import PySparkException

    with warnings.catch_warnings():  # that it does not support pandas 3: none is used
        warnings.simplefilter("ignore", FutureWarning)
        from pyspark.sql import SparkSession

    logging.getLogger("py4j").setLevel(logging.WARNING)
    running = SparkSession.getActiveSession()
    builder = SparkSession.builder.appName("paddlerec-milvus prepare")
    if sys.stderr.isatty():
        builder = builder.config("spark.ui.showConsoleProgress", "true")
    try:
        session = builder.getOrCreate()
    except PySparkException as error:
        raise SettingsError(f"Spark does not start; it needs Java 17: {_reason(error)}") from None
    if running is None:
        session.sparkContext.setLogLevel("ERROR")
    own = session.newSession()
    for key, value in _SETTINGS.items():
        own.conf.set(key, value)
    try:
        yield own
    finally:
        if running is None:
            session.stop()


@contextmanager
def spark_failures(place: str) -> Iterator[None]:
    """DataError, which begins with ``place``, where a job fails for good."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        raise DataError(f"{place}: Spark cannot go on: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The one line of a trace, of Java or of Python, that says what was wrong."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if _CAUSE.match(line)]
    return (causes[-1] if causes else (lines or [type(error).__name__])[0])[:300]
