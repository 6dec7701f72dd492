# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of all users by Spark: the rows of ``tools/batch.py``, made on the executors.

Each worker loads the export once and searches Milvus by its address. The executors need this
package with the extras [serve] and [spark], and the export under the driver's path.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from paddlerec_milvus.batch.lists import ListOptions, UserLists
from paddlerec_milvus.command import run
from paddlerec_milvus.data.spark.session import require_pyspark, spark_failures, spark_session
from paddlerec_milvus.errors import DataError, SettingsError
from paddlerec_milvus.export.exported_model import read_export
from paddlerec_milvus.retrieval.base import checked_k
from paddlerec_milvus.subcommands import CommandParser

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

_EXAMPLES = """\
examples:
  spark-submit --master yarn tools/spark_batch.py --export /nfs/exports/mine --exact \\
    --histories hdfs:///histories --out hdfs:///lists
  MILVUS_URI=http://milvus:19530 python -u tools/spark_batch.py --export exports/mine \\
    --histories histories.parquet --out lists

The histories are parquet with a user a row: the columns user and items, a list of own ids, oldest
first. Items that the model does not know are left out. Without --exact the vectors are searched in
a Milvus server, and stored there first where it has none.
"""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="spark_batch.py",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--export", type=Path, required=True, metavar="DIR", help="of export.py")
    parser.add_argument("--histories", required=True, metavar="PLACE", help="parquet")
    parser.add_argument("--out", required=True, metavar="PLACE", help="parquet; must not be there")
    parser.add_argument("--top_k", type=int, default=50, metavar="N", help="length of a list (50)")
    parser.add_argument("--rank", action="store_true", help="by the ranker beside the model")
    parser.add_argument("--exact", action="store_true", help="search in numpy, without Milvus")
    parser.add_argument(
        "--exclude-history", action="store_true", help="leave out what the user has clicked"
    )
    parser.add_argument(
        "--without-popular", action="store_true", help="no row for users without a known click"
    )
    return parser


@lru_cache(maxsize=1)
def _of_worker(export: str, uri: str, options: ListOptions) -> UserLists:
    """The export as this process has loaded it."""
    return UserLists.load(export, uri, options)


def _rows(
    export: str, uri: str, options: ListOptions, schema: pa.Schema, batches: Iterator[Any]
) -> Iterator[Any]:
    for batch in batches:
        histories = pl.DataFrame(pl.from_arrow(batch))
        lists = _of_worker(export, uri, options)
        rows = lists.of(histories["user"].to_list(), histories["items"].to_list())
        yield from rows.to_arrow().cast(schema).to_batches()


def _require_users(histories: DataFrame, place: str) -> None:
    """DataError: no such columns, an empty user, or one in two rows."""
    if not {"user", "items"} <= set(histories.columns):
        raise DataError(
            f"--histories {place}: has the columns {', '.join(histories.columns)[:200]}; expected "
            "user and items, a row for each user"
        )
    if not histories.where("user is null").isEmpty():
        raise DataError(f"--histories {place}: an empty user id")
    twice = histories.groupBy("user").count().where("count > 1").first()
    if twice is not None:
        raise DataError(
            f"--histories {place}: user {twice['user']!r} stands in two rows, and which one "
            "counts? Leave one row for each"
        )


def _work(arguments: argparse.Namespace) -> None:
    require_pyspark()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of the workers; Spark's: python3
    import pyarrow as pa
    from pyspark.sql import functions as F  # noqa: N812

    export = arguments.export.resolve()  # of a link what it points at now, for all workers
    trained = read_export(export)
    options = ListOptions(
        checked_k(arguments.top_k),
        arguments.rank,
        arguments.exact,
        arguments.exclude_history or arguments.rank or trained.settings.retrieval.exclude_history,
        not arguments.without_popular,
    )
    uri = trained.settings.milvus.uri
    if not options.exact and "://" not in uri:
        raise SettingsError(
            f"milvus.uri: {uri} is a file, which one process opens; set MILVUS_URI to a server, or "
            "add --exact"
        )
    with UserLists.open(trained, options, insert=True) as lists:  # once, and not by every worker
        item = pa.int64() if lists.model.ids.kind == "int" else pa.string()
    with spark_session() as spark, spark_failures(arguments.histories):
        histories = spark.read.parquet(arguments.histories)
        _require_users(histories, arguments.histories)
        ints = dict(histories.dtypes)["user"].endswith("int")
        kinds = {"user": "bigint" if ints else "string"}
        kinds["items"] = f"array<{'bigint' if item == pa.int64() else 'string'}>"
        schema = pa.schema(
            [
                ("user", pa.int64() if ints else pa.string()),
                ("items", pa.list_(item)),
                ("scores", pa.list_(pa.float32())),
                ("source", pa.string()),
            ]
        )
        made = histories.select(*(F.col(name).cast(kind) for name, kind in kinds.items()))
        made = made.mapInArrow(
            partial(_rows, str(export), "" if options.exact else uri, options, schema),
            ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            + ", scores array<float>, source string",
        )
        made.write.parquet(arguments.out)
    print(f"lists are in {arguments.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and make lists; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return run(lambda: _work(arguments))
