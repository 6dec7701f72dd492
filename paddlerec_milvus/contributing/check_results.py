# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What checks of a model folder ended at: a line for each, a summary, and the same as JSON."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paddlerec_milvus.errors import UserError

if TYPE_CHECKING:  # it needs paddle
    from paddlerec_milvus.contributing.trial import Trial

Status = Literal["ok", "FAILED", "not run"]


class NotApplicableError(UserError):
    """A check that says nothing about this folder, or cannot run here; the text says why."""


@dataclass(frozen=True)
class Check:
    """One rule of the contract.

    ``run`` takes the folder under check and says what it saw; it raises a UserError that says what
    is wrong and what to do. ``needs`` names the check without which this one means nothing.
    """

    name: str
    run: Callable[[Trial], str]
    needs: str = ""


@dataclass(frozen=True)
class CheckResult:
    """How one check ended, and what it saw."""

    name: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status:<8}{self.name}: {self.detail}"


def run_checks(checks: Iterable[Check], trial: Trial) -> Iterator[CheckResult]:
    """Run ``checks`` in their order; an exception names the line of the folder's code, if any."""
    ended: dict[str, Status] = {}
    for check in checks:
        if check.needs and ended[check.needs] != "ok":
            result = CheckResult(check.name, "not run", f"needs '{check.needs}'")
        else:
            result = CheckResult(check.name, *_outcome(check, trial))
        ended[check.name] = result.status
        yield result


def _outcome(check: Check, trial: Trial) -> tuple[Status, str]:
    try:
        return "ok", check.run(trial)
    except NotApplicableError as reason:
        return "not run", str(reason)
    except UserError as error:
        return "FAILED", str(error)
    except Exception as error:  # the folder's code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if Path(f.filename).is_relative_to(trial.yaml.parent)]
        at = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
        text = str(error).strip().rpartition("\n")[2].strip()  # paddle's last line says what
        return "FAILED", f"{type(error).__name__}: {text}{at}"


def summary(results: Iterable[CheckResult]) -> str:
    """How many checks are ok, failed and did not run."""
    ended = [result.status for result in results]
    parts = [f"{ended.count('ok')} ok", f"{ended.count('FAILED')} failed"]
    return ", ".join([*parts, f"{ended.count('not run')} not run"])


def as_json(model: Path, results: Iterable[CheckResult]) -> dict[str, Any]:
    """The results of the folder ``model`` for ``--json``."""
    rows = [asdict(result) for result in results]
    return {"model": str(model), "ok": all(r["status"] != "FAILED" for r in rows), "checks": rows}
