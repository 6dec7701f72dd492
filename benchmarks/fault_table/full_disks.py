# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A disk that is full while a checkpoint is saved, a model is copied, and vectors are inserted."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
from service_process import ServiceProcess

from fault_table.load import INSERT_SECONDS, FaultBench, UnderLoad, inserted
from fault_table.row import FaultRow
from fault_table.served_folder import PARAMETERS, YAML
from fault_table.small_disk import FullDisk
from paddlerec_milvus.checkpoint import BEST, load_tensors
from paddlerec_milvus.errors import CheckpointError

TRAINER = Path(__file__).resolve().parents[2] / "tools" / "trainer.py"
MIB = 1 << 20
NO_SPACE = "No space left on device"
FULL_SECONDS = 2.0  # that the disk stays full after a refused insert
ROOM = 1.5  # of a checkpoint's size: for one, not for two


def checkpoint_saved(bench: FaultBench, row: FaultRow) -> None:
    """The trainer's disk has room for the first epoch's checkpoint alone; later for all."""
    files = (bench.served.checkpoints / "0").glob("*")
    size = sum(file.stat().st_size for file in files)
    with FullDisk(bench.place / "training", int(ROOM * size)) as disk:
        command = [sys.executable, "-u", str(TRAINER), "-m", YAML, "--data", str(bench.data)]
        command += ["-o", f"runner.model_save_path={disk.folder}/out", "runner.epochs=2"]
        command += bench.served.model_options
        failed = _trained(disk, command)
        row.times = 1
        row.require(failed.returncode == 2, f"the trainer ended with {failed.returncode}, not 2")
        last = failed.stderr.strip().splitlines()[-1]
        row.require(last.startswith("error: ") and NO_SPACE in last, f"it said: {last}")
        row.require("Traceback" not in failed.stderr, "it ended with a traceback")
        before = _saved(disk.outside / "out", row)
        row.require(list(before) == ["0", "best"], f"checkpoints on the full disk: {list(before)}")
        row.acknowledged = failed.stderr.count("saved ")
        disk.grow(8 * size)
        resumed = _trained(disk, [*command, "--resume"])
        row.require(resumed.returncode == 0, f"--resume ended with {resumed.returncode}")
        after = _saved(disk.outside / "out", row)
        row.require(list(after) == ["0", "1", "best"], f"checkpoints after --resume: {list(after)}")
        row.stored = sum(before[name] == after.get(name) for name in before if name != BEST)
        row.counts["message"] = last


def _trained(disk: FullDisk, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*disk.prefix, *command], check=False, capture_output=True, text=True)


def _saved(folder: Path, row: FaultRow) -> dict[str, str]:
    """The digests of each epoch's parameters, and the best's; each must be whole."""
    digests = {}
    for file in sorted(folder.glob(f"*/{PARAMETERS}")):
        try:
            load_tensors(file)
        except CheckpointError as error:
            row.problems.append(str(error))
        digests[file.parent.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return digests


def model_copied(bench: FaultBench, row: FaultRow) -> None:
    """The service cannot copy the model that it is about to insert."""
    name = "copied"
    size = (bench.served.checkpoints / "0" / PARAMETERS).stat().st_size
    with FullDisk(bench.place / name, 8 * size + 4 * MIB) as disk:
        uri = bench.milvus.uri
        environment = {"SERVING_KEPT": str(disk.folder / "served")}
        with bench.service(name, uri, environment=environment, prefix=disk.prefix) as service:
            load = _insert_without_space(bench, row, service, disk, name, free=size // 2)
            load.compare(uri)
            row.require(not _leftovers(disk), f"left on the disk: {_leftovers(disk)}")


def vectors_inserted(bench: FaultBench, row: FaultRow) -> None:
    """Milvus Lite cannot write the vectors of an insert."""
    name = "lite"
    vectors = 4 * bench.interests.shape[1] * bench.total
    with FullDisk(bench.place / name, 40 * vectors + 32 * MIB) as disk:
        uri = str(disk.folder / "milvus.db")
        with bench.service(name, uri, prefix=disk.prefix) as service:
            load = _insert_without_space(bench, row, service, disk, name, free=vectors // 2)
        copy = bench.place / "lite_copy"
        copy.mkdir()
        for file in disk.outside.glob("*milvus.db*"):
            (shutil.copytree if file.is_dir() else shutil.copyfile)(file, copy / file.name)
    load.compare(str(copy / "milvus.db"))


def _insert_without_space(
    bench: FaultBench, row: FaultRow, service: ServiceProcess, disk: FullDisk, name: str, free: int
) -> UnderLoad:
    """Insert on a full disk, again with space, and so on; what is written meanwhile is counted."""
    bench.served.put(0)
    inserted(service)
    # 409: somebody has to mend it
    with UnderLoad(bench, row, [service], name, other_statuses=["409"]) as load:
        for turn in range(1, 1 + bench.times(5, 1)):
            load.steady()
            bench.served.put(turn % 2)
            _forget_former_copies(disk)
            disk.fill(free)
            answer = httpx.post(f"{service.url}/insert", timeout=INSERT_SECONDS)
            row.require(answer.status_code in (409, 503), f"insert: {answer.status_code}")
            row.require(NO_SPACE in answer.text, f"insert: {answer.text:.300}")
            row.counts["message"] = answer.text
            time.sleep(FULL_SECONDS)
            epoch = bench.epoch_of(service)
            row.require(epoch == 1 - turn % 2, f"lists of epoch {epoch} while the disk is full")
            disk.clear()
            load.recovered(time.monotonic())
            inserted(service)
            epoch = bench.epoch_of(service)
            row.require(epoch == turn % 2, f"lists of epoch {epoch} after an insert with space")
    return load


def _forget_former_copies(disk: FullDisk) -> None:
    """Remove the models that do not serve, so that an insert of one has to copy it again."""
    copies = (disk.outside / "served").glob("[!.]*")
    for former in sorted(copies, key=lambda place: place.stat().st_mtime)[:-1]:
        shutil.rmtree(former)


def _leftovers(disk: FullDisk) -> list[str]:
    return [file.name for file in (disk.outside / "served").glob(".*")]
