# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Training of a model folder: it learns, repeats itself, resumes, and saves all that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paddlerec_milvus.checkpoint import load_tensors
from paddlerec_milvus.contributing.trial import EPOCHS, Trial, copied_state
from paddlerec_milvus.encoder import Encoder
from paddlerec_milvus.errors import ModelError, TrainingError

LAST = str(EPOCHS - 1)


def trains(trial: Trial) -> str:
    """Training lowers the loss of the first batches, with the same draws before and after it.

    So it may be small steps that are left: a model in closed form learns little, but something.
    """
    run = trial.whole
    before, after = run.loss(run.start), run.loss(copied_state(run.trainer.model))
    if not after < before:
        raise TrainingError(
            f"the loss does not fall: that of the first batches is {before:.4f} before training "
            f"and {after:.4f} after {sum(run.steps)} steps; look at the optimizer's parameters and "
            "its rate"
        )
    return f"loss {before:.4f}, after {sum(run.steps)} steps {after:.4f}"


def _arrays(state: Any, name: str = "") -> dict[str, bytes]:
    """Each array and number of a nested state by its place, as bytes."""
    if isinstance(state, dict):
        parts = (_arrays(value, f"{name}.{key}") for key, value in state.items())
        return {key: value for part in parts for key, value in part.items()}
    array = np.asarray(state)
    return {name: f"{array.dtype}{array.shape}".encode() + array.tobytes()}


def _differing(one: Path, other: Path) -> list[str]:
    """Names in ``rec.pdparams`` and ``rec.pdopt`` whose bits differ between two checkpoints."""
    names = []
    for part in ("rec.pdparams", "rec.pdopt"):
        first, second = (_arrays(load_tensors(folder / part)) for folder in (one, other))
        keys = first.keys() | second.keys()
        names += [key.strip(".") for key in sorted(keys) if first.get(key) != second.get(key)]
    return names


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def repeats_itself(trial: Trial) -> str:
    """A second run with the same seed gives the same first epoch, bit by bit; it stops then."""
    whole = trial.whole
    inside = whole.steps[0] + max(1, whole.steps[1] // 2)
    parts = trial.train(trial.place / "parts", stop_at=inside)
    names = _differing(whole.out / "0", parts.out / "0")
    if names:
        raise ModelError(
            f"two runs with one seed differ after an epoch in {_shown(names)}: something draws "
            "from a generator that runner.seed does not seed; use paddle's, or numpy's with the "
            "seed and the epoch"
        )
    return f"seed {trial.settings.runner.seed}: epoch 0 has the same bits twice"


def resumes(trial: Trial) -> str:
    """The run that was stopped inside an epoch goes on to the bits of one that was not."""
    parts = trial.train(trial.place / "parts", resume=True)
    names = _differing(trial.whole.out / LAST, parts.out / LAST)
    if names:
        raise ModelError(
            f"stopped and resumed, training ends elsewhere: {_shown(names)} differ: a state "
            "changes in training that is no parameter and no buffer of the layer "
            "(register_buffer) and not the optimizer's, so that no checkpoint has it"
        )
    return f"stopped inside epoch {LAST} and resumed: the same bits as without a stop"


def loads(trial: Trial) -> str:
    """A fresh model with the checkpoint gives what the trained one gives."""
    trial.require_searched()
    loaded, trainer = trial.encoder, trial.whole.trainer
    trained = Encoder(trial.settings, trainer.folder, trainer.contract, trainer.model)
    trained.model.eval()
    for what, one, other in (
        ("user vectors", trial.vectors(), trial.vectors(encoder=trained)),
        ("item vectors", loaded.item_vectors(), trained.item_vectors()),
    ):
        if one.shape != other.shape or not np.array_equal(one, other, equal_nan=True):
            raise ModelError(
                f"{what} of the loaded checkpoint are not those of the model that was trained: "
                "something that learns is not in the layer's state_dict()"
            )
    parameters = sum(int(np.prod(p.shape)) for p in loaded.model.parameters())
    return f"every name and shape fits, {parameters:,} parameters"
