# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""One update from its first step to its last, which goes on where it was stopped.

Until the insert nothing that serves is touched. The insert, the service's own, builds the vectors
beside those that serve and switches; what is seen to be wrong afterwards is taken back.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.id_map import read_item_ids
from paddlerec_milvus.errors import SettingsError, UserError
from paddlerec_milvus.export.exported_model import ExportedModel
from paddlerec_milvus.serving.client import ServiceError
from paddlerec_milvus.update.exports_folder import CURRENT, RUNS, ExportsFolder
from paddlerec_milvus.update.gate import (
    INDEX_RECALL,
    GateError,
    gate_rows,
    gate_table,
)
from paddlerec_milvus.update.model_steps import (
    CHECKPOINTS,
    DATA,
    START,
    ModelPlan,
    ModelSteps,
    last_checkpoint,
    ranker_kind,
)
from paddlerec_milvus.update.run_state import (
    FinishedStep,
    UpdateRun,
    command_digest,
    opened_run,
    states_of,
)
from paddlerec_milvus.update.served_model import ServiceReplicas, WrongModelError
from paddlerec_milvus.update.traffic import LEAST_REQUESTS, Traffic, traffic_since, worsening

logger = logging.getLogger(__name__)

SWITCHED, REFUSED, ROLLED_BACK = 0, 3, 4  # exit codes
POLL_SECONDS = 5.0  # between two readings of /metrics
AWAY_SECONDS = 30.0  # that a service may not answer while it is watched
NEVER_SERVED = ("unchanged", "refused")  # outcomes


@dataclass(frozen=True)
class UpdatePlan:
    """What the command line says."""

    model: ModelPlan
    exports: Path
    services: Sequence[str]
    margins: Mapping[str, float]
    limits: Mapping[str, float]
    watch: float
    """Seconds."""
    keep: int
    """Exports."""
    is_warm: bool = False
    """Training starts from the parameters of the last update."""


class WorseError(UserError):
    """The new model does worse than the one before."""


def say(text: str) -> None:
    """Print ``text`` with the time."""
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def update(plan: UpdatePlan, key: str) -> int:
    """Carry ``plan`` out; returns the exit code. ``key`` is the service's. Raises UserError."""
    exports = ExportsFolder(plan.exports)
    with exports.alone(), ServiceReplicas(plan.services, key) as services:
        if plan.services:
            services.require_rights()
        else:
            say("no --service: a service that is started anew takes the new export")
        words = [*plan.model.words(), str(plan.is_warm)]
        run, is_old = opened_run(exports, command_digest(words))
        say(f"{'going on with' if is_old else 'run'} {run.state.name}: {run.path}")
        if run.state.leaving and not plan.services:
            raise SettingsError(f"{run.path}: the service is to go back: give its --service again")
        update = Update(plan, exports, services, run)
        if is_old:
            update.follow_current()
        if run.state.traffic is None:
            run.state.traffic = services.traffic()
            run.write()
        code = update.carried_out()
        tidy(exports, run, plan.keep)
    mib = exports.size() / 2**20
    say(f"{exports.folder}: {mib:,.1f} MiB")
    print(f"{run.state.outcome}: {run.state.reason}", flush=True)
    return code


class Update:
    """One run with all that it needs."""

    def __init__(
        self, plan: UpdatePlan, exports: ExportsFolder, services: ServiceReplicas, run: UpdateRun
    ) -> None:
        self._plan, self._exports, self._services, self._run = plan, exports, services, run
        self._state, self._name = run.state, run.state.name
        self._model = ModelSteps(plan.model, run.path)

    def follow_current(self) -> None:
        """Compare with what ``current`` points at now, if that was moved before the insert."""
        state, current = self._state, self._exports.current
        is_inserted = "insert" in state.steps or state.inserted_at is not None
        if is_inserted or current in (state.before, self._name):
            return
        was, now = state.before or "nothing", current or "nothing"
        say(f"{CURRENT} was {was} and is {now} now: the new model is compared with that")
        state.before, state.traffic = current, self._services.traffic()
        state.steps.pop("gate", None)
        if self._plan.model.ranker is None and not self._is_ranked_as(self._old()):
            for step in ("rank", "export"):
                state.steps.pop(step, None)
        self._run.write()

    def _is_ranked_as(self, old: ExportedModel | None) -> bool:
        """Whether the new export is there and has a ranker of the kind of ``old``'s."""
        return "export" in self._state.steps and ranker_kind(self._new()) == ranker_kind(old)

    def carried_out(self) -> int:
        """Take all steps that are not done; the exit code, and the outcome in the run's state."""
        if self._state.leaving:
            return self._go_back()
        plan = self._plan
        try:
            if plan.model.log is not None:
                self._step("prepare", self._model.prepare)
            if not plan.model.is_trained:
                self._step("train", lambda: self._model.train(self._earlier()))
            self._step("rank", lambda: self._model.rank(self._old()))
            self._step("export", lambda: self._model.export(self._exports.folder / self._name))
            if (old := self._old()) and old.manifest.key == self._new().manifest.key:
                return self._ended("unchanged", f"{self._state.before} is the same model", SWITCHED)
            self._step("gate", self._gate)
            self._step("insert", self._insert)
        except GateError as error:
            advice = f"the checkpoint stays in {self._run.path} until the next update (--trained)"
            return self._ended("refused", f"{error}; {advice}", REFUSED)
        try:
            if plan.services:
                self._step("verify", self._verify)
                self._step("watch", self._watch)
        except (WrongModelError, WorseError) as error:
            self._state.leaving = str(error)
            self._run.write()
            return self._go_back()
        new = self._new().manifest
        reason = f"{CURRENT} is {self._name}: {new.model}, epoch {new.epoch}, {new.key}"
        return self._ended("switched", reason, SWITCHED)

    def _step(self, name: str, work: Callable[[], str]) -> None:
        if (before := self._state.steps.get(name)) is not None:
            say(f"{name}: done before ({before.result})")
            return
        say(f"{name} …")
        began = time.monotonic()
        result = work()
        seconds = time.monotonic() - began
        ended = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._state.steps[name] = FinishedStep(ended=ended, seconds=seconds, result=result)
        self._run.write()
        say(f"{name}: {result} ({seconds:.1f} s)")

    def _ended(self, outcome: str, reason: str, code: int) -> int:
        logger.log(logging.INFO if code == SWITCHED else logging.WARNING, "%s: %s", outcome, reason)
        self._run.finish(outcome, reason)
        return code

    def _new(self) -> ExportedModel:
        return self._exports.export(self._name)

    def _old(self) -> ExportedModel | None:
        """The export that serves before; None: there is none."""
        return self._exports.export(self._state.before) if self._state.before else None

    def _earlier(self) -> tuple[Path, ExportedModel] | None:
        """Checkpoint and export of the last update that was switched to; None: start anew."""
        if not self._plan.is_warm:
            return None
        switched = [state.name for state in states_of(self._exports) if state.outcome == "switched"]
        if not switched:
            say("no update before this one: training starts from scratch")
            return None
        place = self._exports.folder / RUNS / switched[-1]
        return last_checkpoint(place), self._exports.export(switched[-1])

    def _gate(self) -> str:
        old, new = self._old(), self._new()
        if old is None:
            return "nothing serves that it could be compared with: it passes"
        settings = self._model.settings()
        data = settings.path("test_data_dir").parent
        users, items = read_held_out(settings.path("test_data_dir")), read_item_ids(data)
        rows, count = gate_rows(new, old, users, items, self._plan.margins)
        print(gate_table(rows, count), flush=True)
        if reasons := [row.reason(count) for row in rows if not row.passes]:
            raise GateError("; ".join(reasons))
        changes = (f"{row.name} {100 * row.change.change.mean:+.2f}" for row in rows)
        return f"{', '.join(changes)} points, {count:,} users"

    def _insert(self) -> str:
        """Let ``current`` point at the new export, and the service insert it; or neither."""
        exports, services, manifest = self._exports, self._services, self._new().manifest
        if not self._plan.services:
            exports.point(self._name)
            return f"{CURRENT} is {self._name}"
        try:
            now = services.served()
        except ServiceError as error:
            raise ServiceError(f"{error}; nothing was switched", error.status) from None
        if now == manifest.key:  # by a run that was killed here
            exports.point(self._name)
            return "it serves already"
        self._state.served = now or self._state.served
        self._state.inserted_at = services.traffic()
        self._run.write()
        exports.point(self._name)
        try:
            answer = services.insert()
            if answer.checkpoint != manifest.digest:
                raise ServiceError(
                    f"the service inserted {answer.checkpoint}, not {manifest.digest}: it must be "
                    f"started with SERVING_EXPORT={exports.folder / CURRENT}"
                )
        except BaseException as error:
            exports.point(self._state.before)
            if isinstance(error, ServiceError) and "true neighbours" in str(error):
                raise GateError(str(error)) from None
            raise
        return f"{answer.inserted:,} items in {answer.collection}"

    def _verify(self) -> str:
        """What the services give beside what the export gives."""
        settings = self._model.settings()
        users = read_held_out(settings.path("test_data_dir"))
        items = read_item_ids(settings.path("test_data_dir").parent)
        least = self._plan.margins[INDEX_RECALL]
        return self._services.require_lists(self._new(), users, items, least)

    def _watch(self) -> str:
        """What the services count for a while. WorseError: it is worse than before."""
        state, services = self._state, self._services
        inserted = state.inserted_at or {}
        before = traffic_since(inserted, state.traffic or {})
        if before.requests < LEAST_REQUESTS:
            before = traffic_since(inserted, {})
        end, answered, after = time.monotonic() + self._plan.watch, time.monotonic(), Traffic()
        while True:
            try:
                counted = services.traffic()
                inserted = {**counted, **inserted}  # what was not asked then counts from now on
                after, answered = traffic_since(counted, inserted), time.monotonic()
            except ServiceError as error:
                if time.monotonic() - answered > AWAY_SECONDS:
                    raise WorseError(str(error)) from None
            if problem := worsening(before, after, self._plan.limits):
                raise WorseError(problem)
            if (left := end - time.monotonic()) <= 0:
                break
            time.sleep(min(POLL_SECONDS, left))
        self._verify()
        return f"{after}; before: {before}"

    def _go_back(self) -> int:
        """Let the model before serve again, and ``current`` point at its export."""
        state, services, reason = self._state, self._services, self._state.leaving
        say(f"going back: {reason}")
        key = self._new().manifest.key
        if not state.served:
            self._run.finish("switched", f"{reason}; there is no model before it to go back to")
            raise UserError(f"{self._name} stays: {state.reason}")
        if services.served() != state.served:
            services.roll_back(key)
        now = services.served()
        if now != state.served:
            raise ServiceError(f"{now or 'no model'} answers after the rollback: see /readyz")
        self._exports.point(state.before)
        return self._ended("rolled back", f"{reason}; {now} serves again", ROLLED_BACK)


def tidy(exports: ExportsFolder, run: UpdateRun, keep: int) -> None:
    """Remove what no later update needs.

    Exports that never served, old ones, and checkpoints and data but the last's.
    """
    states = states_of(exports)
    for state in states:
        if state.outcome in NEVER_SERVED and state.name != exports.current:
            exports.remove(state.name)
    names = [state.name for state in states if state.outcome == "switched"]
    needed = {exports.current, run.state.name, run.state.before, *names[-1:]}
    if gone := exports.prune(keep, needed):
        say(f"removed {', '.join(gone)}")
    for place in (exports.folder / RUNS).glob("*/"):
        if place.name not in (*names[-1:], run.state.name):
            for part in (CHECKPOINTS, DATA, START):
                shutil.rmtree(place / part, ignore_errors=True)
