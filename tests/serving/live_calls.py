# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The calls of a user, what Milvus holds of one, and another model to serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paddle
import pytest
from running_service import Running

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.retrieval.user_store import UserState, UserStore
from paddlerec_milvus.zoo import ModelFolder

HISTORY = [3, 7, 12]


def click(service: Running, user: int, *items: int) -> dict[str, Any]:
    answer = service.http.post(f"/users/{user}/events", json={"items": items})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def wanted(service: Running, user: int, **options: Any) -> dict[str, Any]:
    answer = service.http.get(f"/users/{user}/candidates", params=options)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stored(service: Running, user: int) -> UserState | None:
    """What Milvus holds, by a connection of its own."""
    model = service.service.settings.model
    store = UserStore(model.milvus_uri, model.milvus.collection)
    try:
        return store.read(user)
    finally:
        store.close()


def same_but_scores(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert {k: v for k, v in one.items() if k != "scores"} == {
        k: v for k, v in other.items() if k != "scores"
    }
    assert one["scores"][0] == pytest.approx(other["scores"][0], abs=1e-5)


def untrained(trained: Any, folder: Path, *options: str) -> list[str]:
    """The options of a service for a network with ``options``, as it is before training."""
    options = ("hyper_parameters.neg_samples=128", "hyper_parameters.emb_init_std=1.0", *options)
    settings = settings_for("mind/config.yaml", options, trained.data)
    paddle.seed(3)
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    (folder / "out" / "0").mkdir(parents=True)
    paddle.save(encoder.model.state_dict(), str(folder / "out" / "0" / "rec.pdparams"))
    return [*options, f"runner.infer_load_path={folder / 'out'}"]
