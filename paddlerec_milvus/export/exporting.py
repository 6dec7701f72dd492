# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From a checkpoint to a folder that serves without PaddlePaddle, checked against it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from paddlerec_milvus.data.features import ITEM_FEATURES, read_features
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.prepared import files_to_serve
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.encoder import Encoder, loaded_encoder
from paddlerec_milvus.errors import CheckpointError, DataError, ModelError
from paddlerec_milvus.evaluation.report import versions
from paddlerec_milvus.export.conversion import convert
from paddlerec_milvus.export.exported_model import ExportedModel, read_export
from paddlerec_milvus.export.manifest import (
    DATA,
    HISTORY,
    ITEMS_OF_FEATURES,
    LENGTH,
    MANIFEST,
    USERS,
    VECTORS,
    YAML,
    ExportManifest,
    Tensor,
    read_manifest,
    sums_of,
)
from paddlerec_milvus.export.onnx_tower import OnnxTower
from paddlerec_milvus.export.tower_layers import save_item_tower, save_user_tower
from paddlerec_milvus.ranking.files import FOLDER as RANKING
from paddlerec_milvus.ranking.files import read_manifest as read_ranking
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel

logger = logging.getLogger(__name__)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

USERS_COMPARED = 1_000
TOLERANCE = 1e-5
BATCH = 128


def export_model(trained: TrainedModel, out: Path) -> ExportedModel:
    """Write ``trained`` to the folder ``out``, whole or not at all; an older export is replaced.

    UserError: the checkpoint does not fit its data, the model cannot be exported, its export gives
    other interests, or ``out`` is something else.
    """
    _require_export_or_nothing(out)
    trained.require_fit()
    digest = trained.fingerprint()
    encoder = loaded_encoder(*trained)
    encoder.warn_of_profiles("an export")
    vectors = encoder.item_vectors()
    with staged(out) as folder:
        counts = _feature_codes(encoder, trained)
        _write_towers(encoder, counts, folder)
        np.save(folder / VECTORS, vectors)
        _copy_data(trained, folder / DATA)
        ranker = ""
        if (trained.checkpoint / RANKING).is_dir():
            ranker = read_ranking(trained.checkpoint / RANKING).digest
            shutil.copytree(trained.checkpoint / RANKING, folder / RANKING)
        (folder / YAML).write_text(_yaml_of(trained.settings), encoding="utf-8")
        histories, lengths = _users(trained, len(vectors), encoder.maxlen)
        manifest = ExportManifest(
            model=trained.name,
            digest=digest,
            epoch=trained.epoch,
            data=trained.data_identity(),
            maxlen=encoder.maxlen,
            inputs=[
                Tensor(name=HISTORY, shape=["B", encoder.maxlen], dtype="int64"),
                Tensor(name=LENGTH, shape=["B", 1], dtype="int64"),
            ],
            output=Tensor(name="interests", shape=["B", "K", vectors.shape[1]], dtype="float32"),
            items=len(vectors) - 1,
            difference=0.0,
            users=len(histories),
            feature_codes=counts,
            ranker=ranker,
            versions=versions(),
            files=sums_of(folder),
        )
        _write_manifest(manifest, folder)
        tower = OnnxTower(ExportedModel(trained.settings, folder))
        difference = _difference(encoder, tower, histories, lengths)
        if counts:
            difference = max(difference, _item_difference(encoder, tower, counts))
        if difference > TOLERANCE:
            raise ModelError(
                f"{trained.name}: the export gives other vectors than the checkpoint: the "
                f"largest difference over {len(histories):,} users is {difference:.2g}, at most "
                f"{TOLERANCE:g} is taken for rounding"
            )
        _write_manifest(manifest.model_copy(update={"difference": difference}), folder)
        trained.require_still(digest)
    return read_export(out)


def _require_export_or_nothing(out: Path) -> None:
    """DataError: ``out``, which would be replaced, is there and holds something else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        own = {MANIFEST, *read_manifest(out).files}
    except CheckpointError:
        raise DataError(f"{out}: is there and no export: name another folder") from None
    files = (file for file in out.rglob("*") if not file.is_dir() or file.is_symlink())
    others = sorted({file.relative_to(out).as_posix() for file in files} - own)
    if others:
        raise DataError(
            f"{out}: holds files that are not of the export, such as {others[0]}: move them, or "
            "name another folder"
        )


def _write_towers(encoder: Encoder, counts: list[int], folder: Path) -> None:
    save_user_tower(encoder, folder / USERS)
    convert(folder / USERS, folder / f"{USERS}.onnx")
    if counts:
        save_item_tower(encoder, len(counts), folder / ITEMS_OF_FEATURES)
        convert(folder / ITEMS_OF_FEATURES, folder / f"{ITEMS_OF_FEATURES}.onnx")


def _feature_codes(encoder: Encoder, trained: TrainedModel) -> list[int]:
    """Codes of each feature that it makes vectors of items by; empty: it makes none."""
    file = None if trained.data is None else trained.data / ITEM_FEATURES
    if file is None or not file.is_file():
        return []
    codes = read_features(file).codes
    try:
        encoder.vectors_of_features(np.ones(1, np.int64), codes[:1])
    except ModelError:
        return []
    counts: list[int] = (codes.max(axis=0) + 1).tolist()
    return counts


def _copy_data(trained: TrainedModel, folder: Path) -> None:
    """What the service reads of the prepared folder: ids, titles, categories, features."""
    folder.mkdir()
    for file in files_to_serve(trained.data):
        shutil.copyfile(file, folder / file.name)


def _yaml_of(settings: Settings) -> str:
    """The sections that serving reads; a token is none of an export's files."""
    milvus = settings.milvus.model_dump(exclude={"token"})
    sections: dict[str, Any] = {
        "runner": {"infer_load_path": "."},
        "milvus": milvus,
        "index": dict(settings.index),
        "retrieval": settings.retrieval.model_dump(),
    }
    return yaml.safe_dump(sections, sort_keys=False)


def _users(trained: TrainedModel, item_count: int, maxlen: int) -> tuple[IntArray, IntArray]:
    """Histories [n, maxlen] and lengths [n] to compare by: test users, else random clicks."""
    rows = []
    if trained.settings.runner.test_data_dir is not None:
        users = read_held_out(trained.settings.path("test_data_dir"))
        rows = [row for row in users.history_list() if len(row)][:USERS_COMPARED]
    rng = np.random.default_rng(trained.settings.runner.seed)
    while len(rows) < USERS_COMPARED:
        rows.append(rng.integers(1, item_count, 1 + len(rows) % maxlen))
    return pad_histories(rows, maxlen)


def _difference(
    encoder: Encoder, tower: OnnxTower, histories: IntArray, lengths: IntArray
) -> float:
    """The largest of an interest's value between both, in batches of several sizes."""
    largest = 0.0
    for first in range(0, len(histories), BATCH):
        part = slice(first, first + BATCH)
        expected = encoder.interests(histories[part], lengths[part])
        ours = tower.interests(histories[part], lengths[part])
        largest = max(largest, float(np.abs(expected - ours).max()))
    one = slice(0, 1)
    alone = encoder.interests(histories[one], lengths[one])
    return max(largest, float(np.abs(alone - tower.interests(histories[one], lengths[one])).max()))


def _item_difference(encoder: Encoder, tower: OnnxTower, counts: list[int]) -> float:
    """The largest of an item vector's value between both, for items of the table and new ones."""
    ids = np.arange(1, min(2 * tower.items, BATCH) + 1)
    ids[1::2] += tower.items
    codes = 1 + ids[:, None] % np.maximum(np.array(counts) - 1, 1)
    codes = np.minimum(codes, np.array(counts) - 1)
    expected = encoder.vectors_of_features(ids, codes)
    return float(np.abs(expected - tower.vectors_of_features(ids, codes)).max())


def _write_manifest(manifest: ExportManifest, folder: Path) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
