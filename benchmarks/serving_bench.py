# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the measurements of the service share: a checkpoint served, and requests of test users."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from service_callers import ByPymilvus, ByService, Callers, Way, post
from service_process import ServiceProcess

from paddlerec_milvus.bench.client_pool import Load, LoadResult, calls_of
from paddlerec_milvus.bench.workload import Workload
from paddlerec_milvus.command import model_parser, settings_for
from paddlerec_milvus.data.id_map import IdMap, OwnId
from paddlerec_milvus.errors import RetrievalError, redacted
from paddlerec_milvus.evaluation.report import OwnIds, machine, versions
from paddlerec_milvus.retrieval.candidates import merge_interests
from paddlerec_milvus.retrieval.indexes import Index, index_from_settings
from paddlerec_milvus.retrieval.milvus import MilvusRetriever
from paddlerec_milvus.retrieval.server import LocalMilvus
from paddlerec_milvus.retrieval.stored_rows import Segment
from paddlerec_milvus.serving.client import Client
from paddlerec_milvus.settings import Settings

COLLECTION = "serving_load"
INDEX = ("type=HNSW", "M=16", "efConstruction=200", "ef=100")
PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "pydantic", "grpcio")
POOLED, LISTED = 200, 10  # candidates of the vector model that are ranked, and items then listed
CHECKED_USERS = 200
LEAST_SAME = 0.9  # of their lists: an index that approximates orders equal scores as it likes
SETTLE_LIMIT = 600.0  # seconds
READY_LIMIT = 60.0


@dataclass(frozen=True)
class Bench:
    """A running service, and ways to ask it and the Milvus behind it.

    ``ways``: raw and service for one user a request, "…, batch" for many, "service, excluding"
    with exclude_history; "candidates" are the 200 that "recommend" ranks, for ten. ``about`` says
    what is stored and asked.
    """

    service: ServiceProcess
    ways: dict[str, Way]
    index: Index
    about: dict[str, Any]

    def loads(self, connections: int, rate: float = 0.0, **how: Any) -> list[Load]:
        """One for each of ``connections``, starting with users far apart; ``rate`` of all."""
        step = max(1, self.about["data"]["users"] // connections)
        return [
            Load(self.index, 1, rate=rate / connections, first=number * step, **how)
            for number in range(connections)
        ]

    def many(self, callers: Callers, way: str, connections: int, **how: Any) -> LoadResult:
        """What ``connections`` callers saw together."""
        return callers.run(way, self.loads(connections, **how))


def bench_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that say what is served and asked."""
    parser = model_parser(description or "", "")
    add = parser.add_argument
    add("--epoch", default="best", metavar="N", help="the checkpoint: a number, or best (best)")
    add("--export", type=Path, metavar="DIR", help="serve this export of it, by ONNX Runtime")
    add("--server", default="local", metavar="URI", help="a running Milvus (one of our own)")
    add("--users", type=int, default=2_000, metavar="N", help="of the test set (2,000)")
    add("--top-k", type=int, default=50, metavar="K", help="candidates (50)")
    add("--seed", type=int, default=1, metavar="N", help="draws the users (1)")
    add("--connections", type=int, default=16, metavar="N", help="at a time (16)")
    return parser


def say(message: str) -> None:
    """Print a line of progress to standard error."""
    print(message, file=sys.stderr, flush=True)


def _shown(value: Any) -> Any:
    """An argument as a results file may hold it: text, without a password or a token."""
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return redacted(str(value)) if isinstance(value, str | Path) else value


def shown_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a program was given, as a results file may hold it."""
    return {name: _shown(value) for name, value in vars(arguments).items()}


def provenance(arguments: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """What made the numbers."""
    parameters = shown_arguments(arguments)
    installed = versions() | {name: version(name) for name in PACKAGES}
    return {**bench.about, "parameters": parameters, "machine": machine(), "versions": installed}


@contextmanager
def served(arguments: argparse.Namespace, batch: int = 128) -> Iterator[Bench]:
    """The checkpoint's items in a Milvus, the service on them, and requests of test users."""
    from paddlerec_milvus.bench.workload import trained_workload  # paddle is slow to load

    options = [f"index.{pair}" for pair in INDEX] + arguments.opt
    options.append(f"milvus.collection={COLLECTION}")
    settings = settings_for(arguments.config_yaml, options, arguments.data)
    say("reading the checkpoint and the test users")
    work = trained_workload(
        "serving",
        arguments.config_yaml,
        arguments.data,
        options,
        arguments.epoch,
        arguments.users,
        arguments.seed,
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="paddlerec-milvus-serving-")))
        uri = arguments.server
        if uri == "local":
            say("starting Milvus")
            uri = stack.enter_context(LocalMilvus(folder / "milvus")).uri
        environment = {
            "MILVUS_URI": uri,
            "SERVING_OPTIONS": shlex.join(options),
            "SERVING_KEPT": str(folder / "kept"),
            **source_of(arguments, exported=arguments.export is not None),
        }
        say("starting the service")
        service = stack.enter_context(ServiceProcess(environment, folder / "service.log"))
        client = stack.enter_context(Client(service.url))
        say(f"inserting {len(work.ids):,} items of {work.vectors.shape[1]} dimensions")
        inserted = client.insert()
        stack.callback(client.delete)
        service.wait_for("/readyz", READY_LIMIT)
        index = _index(settings)
        ids = OwnIds.beside(settings.path("test_data_dir")).items
        ways = _ways(arguments, settings, work, ids, Endpoints(uri, service.port, index, batch))
        segments = stack.enter_context(undisturbed(settings, uri, index))
        about: dict[str, Any] = {
            "data": work.described(),
            "inserted": inserted.model_dump(),
            "index": dict(settings.index),
            "segments": [segment._asdict() for segment in segments],
            "same_lists": same_lists(ways, ids, arguments.top_k),
        }
        say(f"lists of the service that are pymilvus' hits, merged: {about['same_lists']:.1%}")
        if about["same_lists"] < LEAST_SAME:
            raise RetrievalError("service and pymilvus do not search for the same: no comparison")
        yield Bench(service, ways, index, about)


def source_of(arguments: argparse.Namespace, *, exported: bool) -> dict[str, str]:
    """The variables that say what is served: the export, or the checkpoint."""
    if exported:
        return {"SERVING_EXPORT": str(arguments.export.resolve())}
    data = {} if arguments.data is None else {"SERVING_DATA": str(arguments.data.resolve())}
    return {"SERVING_YAML": arguments.config_yaml, "SERVING_EPOCH": arguments.epoch, **data}


@dataclass(frozen=True)
class Endpoints:
    """Where requests go, and how many users a large one has."""

    uri: str
    port: int
    index: Index
    batch: int


def _index(settings: Settings) -> Index:
    parameters = {key: value for key, value in settings.index.items() if key != "type"}
    return index_from_settings(str(settings.index["type"]), parameters)


def _ways(
    arguments: argparse.Namespace,
    settings: Settings,
    work: Workload,
    ids: IdMap,
    endpoints: Endpoints,
) -> dict[str, Way]:
    k = arguments.top_k
    raw = ByPymilvus(
        endpoints.uri,
        os.environ.get("MILVUS_TOKEN", ""),
        COLLECTION,
        {
            "limit": k,
            "search_params": {
                "metric_type": settings.retrieval.metric,
                "params": endpoints.index.search_params(k),
            },
            "consistency_level": settings.milvus.consistency,
        },
        calls_of(work.interests, Load(endpoints.index, k)),
    )
    histories = [ids.own_ids(history.tolist()) for history in work.histories]
    one, large = grouped(histories, 1), grouped(histories, endpoints.batch)

    def by_service(
        groups: Sequence[list[list[OwnId]]], path: str = "/candidates", top_k: int = k, **more: bool
    ) -> ByService:
        bodies = [{"hist_item": group, "top_k": top_k, **more} for group in groups]
        return ByService(endpoints.port, [post(path, json.dumps(body).encode()) for body in bodies])

    return {
        "raw": raw,
        "raw, batch": replace(
            raw, queries=calls_of(work.interests, Load(endpoints.index, k, users=endpoints.batch))
        ),
        "service": by_service(one, exclude_history=False),
        "service, batch": by_service(large, exclude_history=False),
        "service, excluding": by_service(one, exclude_history=True),
        "candidates": by_service(one, top_k=POOLED, exclude_history=True),
        "recommend": by_service(one, "/recommend", LISTED),
    }


def grouped(histories: Sequence[list[OwnId]], size: int) -> list[list[list[OwnId]]]:
    """Users of each request, as ``calls_of`` takes them: the last ones go on with the first."""
    users = len(histories)
    return [
        [histories[(start + place) % users] for place in range(size)]
        for start in range(0, users, size)
    ]


@contextmanager
def undisturbed(settings: Settings, uri: str, index: Index) -> Iterator[list[Segment]]:
    """The segments, once Milvus searches what it has on disk, and builds nothing.

    RetrievalError: that takes too long, or it began anew within the block, whose figures then say
    nothing of a service: building takes the processors that searches need.
    """
    token, metric = os.environ.get("MILVUS_TOKEN", ""), settings.retrieval.metric
    with MilvusRetriever(uri, COLLECTION, token=token, metric=metric, index=index) as stored:
        end = time.monotonic() + SETTLE_LIMIT
        while True:
            segments, pending = stored.segments(), stored.versions.pending_rows()
            if not pending and all(segment.flushed for segment in segments):
                break
            if time.monotonic() > end:
                left = sum(not segment.flushed for segment in segments)
                raise RetrievalError(
                    f"after {SETTLE_LIMIT:.0f} s Milvus has still {pending:,} rows to build an "
                    f"index of, and {left} segments to take over: what is measured meanwhile says "
                    "nothing of a service"
                )
            time.sleep(1)
        before = stored.versions.segment_numbers()
        yield segments
        now, pending = stored.versions.segment_numbers(), stored.versions.pending_rows()
        if pending or now != before:
            raise RetrievalError(
                "Milvus compacted segments or built an index while it was measured (segments "
                f"{before} before, {now} now, {pending:,} rows pending): nothing is written; run "
                "it again"
            )


def same_lists(ways: dict[str, Way], ids: IdMap, top_k: int) -> float:
    """The share of users whose list from the service is that of pymilvus' hits, merged."""
    search, queries = ways["raw"].connect()
    call, requests = ways["service"].connect()
    same = []
    for vectors, request in list(zip(queries, requests, strict=True))[:CHECKED_USERS]:
        hits = search(vectors)
        longest = max(len(ids) for ids, _ in hits)
        items = np.full((1, len(hits), longest), -1, np.int64)
        scores = np.full(items.shape, -np.inf, np.float32)
        for row, (hit_ids, distances) in enumerate(hits):
            items[0, row, : len(hit_ids)], scores[0, row, : len(hit_ids)] = hit_ids, distances
        merged = merge_interests(items, scores, top_k).ids[0]
        expected = ids.own_ids(merged[merged > 0].tolist())
        same.append(json.loads(call(request))["candidates"][0] == expected)
    search.close()
    call.close()
    return float(np.mean(same))
