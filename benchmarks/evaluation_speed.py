# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Users per second of an evaluation: ours through Milvus' HNSW, PaddleRec's own with FAISS.

Both evaluate the same test users of the full-size sample log (603,668 users, 367,982 items) at the
same list length, each with a MIND of its own that was trained for a moment: what the vectors mean
does not change what a search of theirs costs, and what HNSW makes of ours is printed beside.

    python benchmarks/evaluation_speed.py --paddlerec /path/to/PaddleRec --work /tmp/evaluation
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path

import yaml
from full_size import ITEMS, full_size_sample
from tabulate import tabulate

from paddlerec_milvus.evaluation.report import machine, versions
from paddlerec_milvus.evaluation.results import EvaluationReport
from paddlerec_milvus.retrieval.server import LocalMilvus

ROOT = Path(__file__).resolve().parent.parent


def run(command: list[str], cwd: Path, **environment: str) -> str:
    print("$", " ".join(command), flush=True)
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def make_data(work: Path, users: int) -> tuple[Path, Path]:
    """The full-size sample, and a folder with its first ``users`` test users."""
    sample, few = full_size_sample(work), work / f"test_{users}"
    few.mkdir(exist_ok=True)
    with (sample / "test" / "part-0").open() as lines:
        (few / "part-0").write_text("".join(islice(lines, users)))
    return sample, few


def theirs(paddlerec: Path, work: Path, sample: Path, test: Path, top_n: int) -> dict[str, float]:
    """PaddleRec's own infer.py; its -o is ignored, so it gets a yaml of its own."""
    folder = paddlerec / "models" / "recall" / "mind"
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings["runner"] |= {
        "train_data_dir": str(sample / "train"),
        "test_data_dir": str(test),
        "model_save_path": str(work / "theirs"),
        "infer_load_path": str(work / "theirs"),
        "batches_per_epoch": 20,
        "epochs": 1,
    }
    file = work / "theirs.yaml"
    file.write_text(yaml.safe_dump(settings))
    copy = folder / file.name  # its trainer imports the model from the yaml's folder
    copy.write_text(file.read_text())
    try:
        run([sys.executable, "-u", "../../../tools/trainer.py", "-m", copy.name], folder)
        log = run([sys.executable, "-u", "infer.py", "-m", copy.name, "-top_n", str(top_n)], folder)
    finally:
        copy.unlink()
    seconds = float(re.findall(r"epoch time: ([\d.]+) s", log)[-1])
    with (test / "part-0").open() as lines:
        users = sum(1 for _ in lines) // settings["runner"]["infer_batch_size"]
    return {"users": users * settings["runner"]["infer_batch_size"], "seconds": seconds}


def ours(work: Path, sample: Path, test: Path, top_n: int, ef: int) -> EvaluationReport:
    """Our tools/infer.py against a real Milvus server."""
    out = work / "ours"
    options = [
        f"runner.model_save_path={out}",
        f"runner.infer_load_path={out}",
        f"runner.test_data_dir={test}",
        "runner.epochs=1",
        "runner.batches_per_epoch=2000",
        *("runner.valid_data_dir=", "runner.patience=0"),
        *("hyper_parameters.embedding_dim=64", "hyper_parameters.hidden_size=64"),  # as PaddleRec's
        "runner.infer_start_epoch=0",
        "runner.infer_end_epoch=1",
        f"index.ef={ef}",
    ]
    data = ["--data", str(sample), "-o", *options]
    model = ["-m", "mind/config.yaml"]
    run([sys.executable, "-u", "tools/trainer.py", *model, *data], ROOT)
    report = work / "ours.json"
    with LocalMilvus() as server:
        ask = [*model, "-top_n", str(top_n), "--report", str(report), *data]
        # as `make` does: the server has the other cores; PaddleRec and FAISS keep all of them
        one_thread = {"MILVUS_URI": server.uri, "OMP_NUM_THREADS": "1"}
        run([sys.executable, "-u", "tools/infer.py", *ask], ROOT, **one_thread)
    return EvaluationReport.model_validate_json(report.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paddlerec", type=Path, required=True, help="a checkout of PaddleRec")
    parser.add_argument("--work", type=Path, default=Path("output_speed"), help="kept for reruns")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--top_n", type=int, default=50)
    parser.add_argument("--ef", type=int, default=128, help="of HNSW at search (128)")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    sample, test = make_data(work, arguments.users)
    report = ours(work, sample, test, arguments.top_n, arguments.ef)
    upstream = theirs(arguments.paddlerec.resolve(), work, sample, test, arguments.top_n)

    last = report.last
    stages = last.seconds_by_stage
    built = stages["insert"] + stages["index"] + stages["load"]
    whole, index = last.seconds, last.index
    assert index is not None  # a real server was searched
    rates = {
        "PaddleRec infer.py, FAISS flat": upstream["users"] / upstream["seconds"],
        "tools/infer.py, Milvus HNSW": last.users / (whole - built),
        "the same, insert and index build included": last.users / whole,
    }
    slowest = rates["PaddleRec infer.py, FAISS flat"]
    rows = [(name, f"{rate:,.0f}", f"{rate / slowest:.1f}") for name, rate in rates.items()]
    print(tabulate(rows, headers=["", "users/s", "ratio"], disable_numparse=True, stralign="right"))
    result = {
        "users_per_second": rates,
        "ratio": rates["tools/infer.py, Milvus HNSW"] / slowest,
        "index_recall": index.index_recall,
        "seconds_by_stage": stages,
        "index": report.settings["index"],
        "top_n": arguments.top_n,
        "users": {"ours": last.users, "paddlerec": upstream["users"]},
        "items": ITEMS,
        "machine": machine(),
        "versions": versions(),
    }
    file = work / "evaluation_speed.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(f"index_recall@{arguments.top_n}: {index.index_recall:.4f}; all figures: {file}")


if __name__ == "__main__":
    main()
