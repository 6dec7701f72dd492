# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Pieces of work: done in processes of one thread each, kept, and never done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from quality_table import baselines, fusion, peer, training
from quality_table.budget import RunLength
from quality_table.data import DataSet
from quality_table.relevance import means
from quality_table.results import (
    PIECE_RESULT,
    RECALL,
    SHORT,
    TOP_N,
    Measurement,
    PieceResult,
    TrainerSpeed,
    ValidTrial,
)

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Piece:
    """One training; ``stage`` is ``tune`` (on valid users), ``speed`` or ``measure`` (on test)."""

    data: DataSet
    method: str
    stage: str
    params: dict[str, Any]
    seed: int
    maxlen: int
    code: str = baselines.CODE
    program: tuple[str, ...] = ()  # the yaml of a model; of a peer its Python, and its checkout

    @property
    def name(self) -> str:
        """Of its file: a digest of all that decides the result, places left out."""
        about = asdict(self) | {"data": self.data.fingerprint, "program": None}
        about |= {"top_n": [TOP_N, SHORT]}
        digest = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.data.name}-{self.method}-{self.stage}-{digest}"

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.params.items()]
        seed = [f"seed={self.seed}"] if self.stage == "measure" else []
        return " ".join([self.data.name, self.stage, self.method, *words, *seed])


def work_on(piece: Piece, work: Path) -> PieceResult:
    """Do one piece: trials of a ``tune``, the speed of a trainer, or a measurement."""
    data, method, params, maxlen = piece.data, piece.method, piece.params, piece.maxlen
    folder = work / "models" / piece.name
    if method == fusion.NAME:
        if piece.stage == "tune":
            return fusion.tune(data, params, maxlen)
        return fusion.measure(data, params, maxlen)
    if piece.stage == "tune":
        return baselines.tune(data, method, params, maxlen)
    if method in baselines.METHODS:
        return baselines.measure(data, method, params, piece.seed, maxlen)
    if method in peer.TRAINED:
        return peer.measure(data, method, piece.program, params, piece.seed, folder)
    yaml, options = Path(*piece.program), params["options"]
    if piece.stage == "speed":
        return training.speed(data, yaml, options, folder)
    length = RunLength(*params["length"]) if "length" in params else None
    whole = params.get("whole_epoch")
    return training.measure(data, yaml, options, piece.seed, folder, length, whole)


def _stored(piece: Piece, work: Path) -> tuple[PieceResult, float]:
    """Do one piece and store its result; also the seconds that it took."""
    began = time.perf_counter()
    result = work_on(piece, work)
    file = work / "pieces" / f"{piece.name}.json"
    fresh = file.with_suffix(".new")
    about = asdict(piece) | {"data": piece.data.fingerprint, "program": None}
    stored = {"piece": about, "result": PIECE_RESULT.dump_python(result, by_alias=True)}
    fresh.write_text(json.dumps(stored))
    fresh.replace(file)
    return result, time.perf_counter() - began


def run_pieces(pieces: Sequence[Piece], work: Path, jobs: int) -> list[PieceResult]:
    """Their results, in order; what the work folder holds already is read from there."""
    (work / "pieces").mkdir(parents=True, exist_ok=True)
    results: dict[str, PieceResult] = {}
    for piece in pieces:
        file = work / "pieces" / f"{piece.name}.json"
        if file.exists():
            stored = json.loads(file.read_text())["result"]
            results[piece.name] = PIECE_RESULT.validate_python(stored)
    left = {piece.name: piece for piece in pieces if piece.name not in results}
    if results:
        say(f"{len(results)} of {len(results) + len(left)} are in {work / 'pieces'}")
    if left:
        results |= _run(list(left.values()), work, jobs)
    return [results[piece.name] for piece in pieces]


def trials_in(results: Sequence[PieceResult]) -> list[ValidTrial]:
    """All trials of ``results``, in order."""
    return [trial for trials in results if isinstance(trials, list) for trial in trials]


def measurements_in(results: Sequence[PieceResult]) -> list[Measurement]:
    """The measurements among ``results``, in order."""
    return [result for result in results if isinstance(result, Measurement)]


def speed_in(results: Sequence[PieceResult]) -> TrainerSpeed:
    """The speed that the one piece of ``results`` measured."""
    (result,) = results
    assert isinstance(result, TrainerSpeed)
    return result


def _run(pieces: Sequence[Piece], work: Path, jobs: int) -> dict[str, PieceResult]:
    os.environ |= dict.fromkeys(ONE_THREAD, "1")  # before a process loads numpy
    results = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(pieces)), mp_context=context, initializer=_worker
    ) as pool:
        futures = {pool.submit(_stored, piece, work): piece for piece in pieces}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                piece = futures[future]
                results[piece.name], seconds = future.result()
                said = _in_words(results[piece.name])
                say(f"[{done}/{len(pieces)}] {piece}: {said} ({seconds:.0f} s)")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return results


def _worker() -> None:
    """Leave Ctrl-C to the parent; when it terminates this process, end its trainer too."""
    warnings.filterwarnings("ignore", category=UserWarning, module="paddle")  # of no concern here

    def stop(*_: object) -> None:
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(143)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)


def _in_words(result: PieceResult) -> str:
    if isinstance(result, list):
        return f"valid {RECALL} {100 * max(trial.valid.recall for trial in result):.2f}"
    if isinstance(result, TrainerSpeed):
        return f"{1 / result.batch:.1f} batches a second, {result.batches} an epoch"
    return f"test {RECALL} {100 * means(result.test).recall:.2f}"


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)
