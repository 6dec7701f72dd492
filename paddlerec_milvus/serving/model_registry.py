# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The models whose vectors lie in Milvus, kept by what tells them apart: parameters and ranker.

Training may write over a checkpoint at any time. What serves, and what a rollback goes back to,
must still be there after a restart: so an insert puts a copy aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from paddlerec_milvus.data.prepared import META, files_to_serve
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.export.exported_model import model_at
from paddlerec_milvus.ranking.files import FOLDER as RANKING
from paddlerec_milvus.ranking.files import WITHOUT, checked_content, read_manifest
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.trained_model import TrainedModel

HYPER_PARAMETERS = "hyper_parameters.json"
NUMBERS = "ids_are_numbers"  # beside a copy whose data has no map of ids
YOUNG = 6 * 3600.0  # seconds; the longest build takes less
_KEY = r"[0-9a-f]{16}(-([0-9a-f]{16}|none))?"
_COPY, _UNFINISHED = re.compile(_KEY), re.compile(rf"\.{_KEY}\.[0-9a-f]{{8}}")


class ModelRegistry:
    """Copies of models in ``folder``, one folder for each key.

    A key is the model's fingerprint and, after a hyphen, its ranker's digest, or ``none``. Without
    that the copy has whatever ranker there was.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: dict[str, float] = {}  # when each copy that is in use was put there

    def save(self, trained: TrainedModel, key: str) -> None:
        """Put a copy aside, whole or not at all.

        CheckpointError: it cannot be written, or is another one by now.
        """
        place = self._folder / key
        if place.is_dir():
            with contextlib.suppress(OSError):
                os.utime(place)  # young again: see prune
            return
        fresh = self._folder / f".{key}.{secrets.token_hex(4)}"  # others may save it, too
        try:
            fresh.mkdir(parents=True)
            _copy(trained, fresh, key)
            fresh.rename(place)
        except OSError as error:
            if place.is_dir():  # another service was quicker
                return
            reason = error.strerror or error
            raise CheckpointError(f"{place}: cannot be written: {reason}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def get(self, key: str, settings: Settings) -> TrainedModel | None:
        """The model of a key with ``settings`` but for its own hyper-parameters.

        CheckpointError: the copy is older than own ids, and would take numbers for ids.
        """
        place = self._folder / key
        try:
            values = json.loads((place / HYPER_PARAMETERS).read_bytes())
        except (OSError, ValueError):
            return None
        if not (place / META).exists() and not (place / NUMBERS).exists():
            raise CheckpointError(f"{place}: does not say what its items' ids are: POST /insert")
        runner = settings.runner.model_copy(update={"train_data_dir": str(place / "train")})
        saved = settings.model_copy(update={"hyper_parameters": values, "runner": runner})
        trained = model_at(saved, place)
        return trained if trained.fingerprint() == key.partition("-")[0] else None

    def prune(self, keys: Collection[str]) -> None:
        """Remove all other copies but the youngest: they may be of an insert that is under way.

        Not so one that was in use before, and was not saved again since. What is no copy stays.
        """
        used, self._used = self._used, {}
        for place in self._folder.glob("*/"):
            with contextlib.suppress(OSError):
                put = place.stat().st_mtime
                if place.name in keys:
                    self._used[place.name] = put
                elif not _is_copy(place):
                    continue
                elif time.time() - put > YOUNG or used.get(place.name) == put:
                    shutil.rmtree(place, ignore_errors=True)


def _is_copy(place: Path) -> bool:
    """Whether :meth:`ModelRegistry.save` made ``place``, or was killed while it did."""
    is_whole = _COPY.fullmatch(place.name) and (place / HYPER_PARAMETERS).is_file()
    return bool(is_whole or _UNFINISHED.fullmatch(place.name))


def _copy(trained: TrainedModel, fresh: Path, key: str) -> None:
    """Copy the model of ``key`` to ``fresh``. CheckpointError: it is another one by now."""
    fingerprint, _, ranker = key.partition("-")
    trained.copy_to(fresh)
    shutil.rmtree(fresh / RANKING, ignore_errors=True)  # an export's own
    if trained._replace(checkpoint=fresh).fingerprint() != fingerprint:
        raise CheckpointError(f"{trained.checkpoint}: was written meanwhile: try again")
    values = json.dumps(dict(trained.settings.hyper_parameters))
    (fresh / HYPER_PARAMETERS).write_text(values, encoding="utf-8")
    if trained.data is None or not (trained.data / META).exists():
        (fresh / NUMBERS).touch()
    for file in files_to_serve(trained.data):
        shutil.copyfile(file, fresh / file.name)
    ranking = trained.checkpoint / RANKING
    if ranker != WITHOUT and ranking.is_dir():
        shutil.copytree(ranking, fresh / RANKING)
    if ranker not in ("", WITHOUT):
        manifest = read_manifest(fresh / RANKING)
        for name in manifest.files:
            checked_content(fresh / RANKING / name, manifest)
        if manifest.digest != ranker:
            raise CheckpointError(f"{ranking}: was written meanwhile: try again")
