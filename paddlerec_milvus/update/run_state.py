# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is done of an update, so that the same command goes on after a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.errors import DataError
from paddlerec_milvus.update.exports_folder import RUNS, ExportsFolder
from paddlerec_milvus.update.traffic import Traffic

STATE = "state.json"


class FinishedStep(BaseModel):
    """A step that is done."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ended: str
    """When, in UTC."""
    seconds: float
    result: str
    """What came of it, in a line."""


class RunState(BaseModel):
    """One run; its export bears its name."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    """When it began, in UTC: 20261129T182547."""
    command: str
    """A digest of what decides the model: the command goes on with a run of the same alone."""
    before: str = ""
    """The name of the export that ``current`` pointed at; empty: none."""
    served: str = ""
    """Key of the model that the service answered by before; empty: none did."""
    traffic: dict[str, Traffic] | None = None
    """What the services had counted when the run began, by their URLs."""
    inserted_at: dict[str, Traffic] | None = None
    """What they had counted just before the insert; None: that has not begun."""
    steps: dict[str, FinishedStep] = {}
    leaving: str = ""
    """Why the service is to go back; empty: it is not."""
    outcome: str = ""
    """``switched``, ``unchanged``, ``refused`` or ``rolled back``; empty: it is under way."""
    reason: str = ""

    @field_validator("traffic", "inserted_at", mode="before")
    @classmethod
    def _by_url(cls, value: object) -> object:
        """States of earlier versions have one sum of all services, which says nothing of one."""
        return {} if isinstance(value, Mapping) and "requests" in value else value


class UpdateRun:
    """The folder of a run, ``runs/NAME`` of an exports folder, and its state."""

    def __init__(self, exports: ExportsFolder, state: RunState) -> None:
        self.state = state
        self.path = exports.folder / RUNS / state.name

    def write(self) -> None:
        """Write the state; DataError: the disk is full, say."""
        with replacing(self.path / STATE) as file:
            file.write_text(self.state.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def finish(self, outcome: str, reason: str) -> None:
        """Write how the run ended."""
        self.state.outcome, self.state.reason = outcome, reason
        self.write()


def command_digest(words: Sequence[str]) -> str:
    """16 hex digits of ``words``; a token among them is not stored."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:16]


def opened_run(exports: ExportsFolder, command: str) -> tuple[UpdateRun, bool]:
    """The run of ``command`` that is under way, else a new one; whether it is an old one.

    DataError: one of another command is under way.
    """
    states = [state for state in states_of(exports) if not state.outcome]
    for state in states:
        if state.command != command:
            raise DataError(
                f"{exports.folder / RUNS / state.name}: this run began with another command "
                "(-m, -o, --data, --log, --rank …) and has not ended: give that command again, or "
                "remove this folder to give it up"
            )
        return UpdateRun(exports, state), True
    now = datetime.now(timezone.utc)
    taken = {place.name for place in (*exports.folder.glob("*"), *exports.folder.glob("runs/*"))}
    name = next(
        text for digits in (0, 3, 6) if (text := _named(now, digits)) not in taken or digits == 6
    )
    run = UpdateRun(exports, RunState(name=name, command=command, before=exports.current))
    run.write()
    return run, False


def _named(now: datetime, digits: int) -> str:
    fraction = f"{now.microsecond:06d}"[:digits]
    return f"{now:%Y%m%dT%H%M%S}{fraction}"


def states_of(exports: ExportsFolder) -> list[RunState]:
    """Those of all runs, the oldest first. DataError: one is damaged."""
    states = []
    for file in sorted((exports.folder / RUNS).glob(f"*/{STATE}")):
        try:
            states.append(RunState.model_validate_json(file.read_bytes()))
        except (OSError, ValidationError) as error:
            reason = str(error).replace("\n", " ")
            raise DataError(
                f"{file}: cannot be read: {reason:.200}; remove its folder to give that run up"
            ) from None
    return states
