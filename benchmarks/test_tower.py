# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The user tower: histories to interests."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.evaluation.predict import read_users
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder


@pytest.mark.benchmark(group="user tower")
@pytest.mark.parametrize("users", [1, 128])
@pytest.mark.parametrize("surroundings", ["of the model folder", "of the caller"])
def test_interests(
    benchmark: Any, settings: Settings, folder: ModelFolder, surroundings: str, users: int
) -> None:
    """Called from outside, each call enters the model folder and leaves it, which costs as well."""
    encoder = Encoder(settings, folder)
    encoder.load(settings.path("infer_load_path") / "0")
    held_out = read_users(settings, "test_data_dir")
    histories, lengths = (part[:users] for part in held_out.histories(encoder.maxlen))
    inside: AbstractContextManager[None] = (
        folder.active() if surroundings == "of the model folder" else nullcontext()
    )
    with inside:
        interests = benchmark(encoder.interests, histories, lengths, held_out.user_ids[:users])
    assert interests.shape[0] == users
