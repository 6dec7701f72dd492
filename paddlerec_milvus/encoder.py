# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained checkpoint as two functions: items to vectors, histories to interests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paddle

from paddlerec_milvus.checkpoint import load_parameters
from paddlerec_milvus.command import warn
from paddlerec_milvus.device import use_device
from paddlerec_milvus.errors import ModelError
from paddlerec_milvus.sampling import one_click_histories
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import DygraphModel, ModelFolder

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class Encoder:
    """The user tower and the item table of a recall model folder.

    ``contract`` and ``model`` are those of a run in training, which are used as they are; without
    them a model is made, in evaluation mode.
    """

    def __init__(
        self,
        settings: Settings,
        folder: ModelFolder,
        contract: DygraphModel | None = None,
        model: Any = None,
    ) -> None:
        self.folder = folder
        self.config = settings.dotted()
        self.maxlen = int(self.config.get("hyper_parameters.maxlen", 0))
        if self.maxlen < 1:
            raise ModelError(
                f"{settings.file}: hyper_parameters.maxlen is needed to evaluate a recall model"
            )
        self.contract = contract or folder.dygraph_model()
        self.model = model
        self.lock: AbstractContextManager[Any] = nullcontext()
        """Held by :meth:`interests`; a service with several threads sets a real one."""
        self._surroundings: Callable[[], AbstractContextManager[None]] = folder.active
        if model is None:
            with folder.active(), folder.settings_errors(), paddle.utils.unique_name.guard():
                self.model = self.contract.create_model(self.config)
            self.model.eval()

    def load(self, checkpoint: Path) -> None:
        """Load ``checkpoint/rec.pdparams``; CheckpointError lists what differs."""
        with self.folder.active():
            load_parameters(
                checkpoint, self.model, getattr(self.contract, "adapt_state_dict", None)
            )

    def item_vectors(self) -> FloatArray:
        """[item_count, D] float32; row 0 is padding, row i is item i.

        A folder says what is searched by ``DygraphModel.item_vectors(dy_model)``; without it the
        table ``dy_model.item_emb`` is taken, as PaddleRec's own MIND does.
        """
        with self.folder.active(), paddle.no_grad():
            if hasattr(self.contract, "item_vectors"):
                vectors = self.contract.item_vectors(self.model)
            elif hasattr(self.model, "item_emb"):
                vectors = self.model.item_emb.weight
            else:
                raise ModelError(
                    f"{self.folder.path}: has no DygraphModel.item_vectors and no layer item_emb: "
                    "not a recall model that can be searched"
                )
        return np.asarray(vectors.numpy(), dtype=np.float32)

    def sample(self, items: int) -> FloatArray:
        """Interests [n, D] of users with one click on some of ``items`` items, to try an index."""
        interests = self.interests(*one_click_histories(items, self.maxlen))
        return interests.reshape(-1, interests.shape[-1])

    def vectors_of_features(self, ids: IntArray, codes: IntArray) -> FloatArray:
        """Vectors [n, D] of items ``ids`` [n] with feature ``codes`` [n, F], known items or new.

        ModelError: the folder has no ``DygraphModel.vectors_of_features(dy_model, ids, codes)``, or
        the model was trained without item features.
        """
        if not hasattr(self.contract, "vectors_of_features"):
            raise ModelError(f"{self.folder.path.name}: makes no vectors of features")
        with self.folder.active(), self.folder.settings_errors(), paddle.no_grad():
            vectors = self.contract.vectors_of_features(self.model, ids, codes)
        if vectors is None:
            raise ModelError(f"{self.folder.path.name}: trained without item features")
        return np.asarray(vectors.numpy(), dtype=np.float32)

    def settle(self) -> None:
        """Parameters change no more: make :meth:`interests` of few users as fast as it gets.

        It then runs without the folder's surroundings, which cost more than the model; a folder
        that needs them even so (it imports or opens something in each call) keeps them. What
        depends on parameters alone is kept by a folder that has ``DygraphModel.freeze(dy_model)``.
        """
        if hasattr(self.contract, "freeze"):
            self.contract.freeze(self.model)
        histories, lengths = np.ones((1, self.maxlen), np.int64), np.ones(1, np.int64)
        self.interests(histories, lengths)  # what is imported once, is now
        self._surroundings = nullcontext
        try:
            self.interests(histories, lengths)
        except (ImportError, OSError):
            self._surroundings = self.folder.active

    @property
    def stands_alone(self) -> bool:
        """Whether :meth:`interests` needs nothing that belongs to the whole process."""
        return self._surroundings is nullcontext

    def warn_of_profiles(self, where: str) -> None:
        """Say so if interests were measured with users' features, which ``where`` does not know."""
        contract = self.contract
        if hasattr(contract, "user_profiles") and (
            contract.user_profiles(np.zeros(0, np.int64), self.config) is not None
        ):
            warn(
                f"the model was trained with users' features, and {where} knows clicks alone: its "
                "lists are made without them, and are not those that tools/infer.py measures"
            )

    def interests(
        self, histories: IntArray, lengths: IntArray, users: IntArray | None = None
    ) -> FloatArray:
        """Interests [B, K, D] float32 of ``histories`` [B, maxlen] (padding 0), ``lengths`` [B].

        ``users`` [B] are their ids, for a folder that has ``DygraphModel.user_profiles(users,
        config)``; without ids it sees no profile.
        """
        with self.lock, self._surroundings(), paddle.no_grad():
            batch: list[Any] = [
                _tensor(histories),
                _tensor(lengths.reshape(-1, 1)),
                paddle.zeros([len(histories), 1, 1], dtype="int64"),
            ]
            if users is not None and hasattr(self.contract, "user_profiles"):
                profiles = self.contract.user_profiles(users, self.config)
                batch += [] if profiles is None else [paddle.to_tensor(profiles)]
            vectors, _ = self.contract.infer_forward(self.model, None, batch, self.config)
            array = np.asarray(vectors.numpy(), dtype=np.float32)
        return array if array.ndim == 3 else array[:, None, :]


def _tensor(array: IntArray) -> paddle.Tensor:
    """``array`` as a tensor; ``paddle.to_tensor`` (3.3.1) never frees 136 bytes of each call."""
    tensor = paddle.empty(array.shape, str(array.dtype))
    tensor.set_value(array)
    return tensor


def loaded_encoder(settings: Settings, checkpoint: Path) -> Encoder:
    """The encoder of ``checkpoint/rec.pdparams``, on the device of ``settings``.

    SettingsError: this paddle lacks the device. CheckpointError: the checkpoint does not fit.
    """
    use_device(settings)
    encoder = Encoder(settings, ModelFolder(settings.model_dir))
    encoder.load(checkpoint)
    return encoder
