# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Whether the model can be used, and the breaker: after some failures no search is tried."""

from __future__ import annotations

import logging
from typing import NamedTuple

from paddlerec_milvus.serving.observability import Metrics

logger = logging.getLogger(__name__)

FAILURES = 3  # searches that fail one after the other, until none is tried


class State(NamedTuple):
    """Whether the model can be used, and a reason that anyone may read."""

    ready: bool
    reason: str


STARTING = State(False, "Milvus has not been asked yet")
READY = State(True, "the stored item vectors are this checkpoint's")
AWAY = State(False, "Milvus does not answer or refuses; the service's log says more")
FAILING = State(False, "searches fail one after the other; Milvus is looked at")
ABSENT = State(False, "no item vectors are stored: POST /insert")
FOREIGN = State(False, "Milvus holds a collection of this name that the service did not make")
OTHER = State(False, "the stored item vectors are of a model that is not here: POST /insert")
UNUSABLE = State(False, "the collection cannot be used as it is; the service's log says more")


def other_data(stored: object, own: object) -> State:
    """Milvus holds vectors of ``stored``, which is of other data than ``own``, this service's."""
    return State(
        False,
        f"Milvus holds the item vectors of {stored}; this service was started with {own}, other "
        "data. Give it a milvus.collection of its own, or put its vectors in their place: POST "
        "/insert, or SERVING_MISMATCH=insert for a start that does so",
    )


class Health:
    """The state of a deployment; its ``failures`` in a row open the breaker."""

    def __init__(self, metrics: Metrics) -> None:
        self.state = STARTING
        self.failures = 0
        """Searches that failed since the last one that did not."""
        metrics.ready.set_function(lambda: float(self.state.ready))
        metrics.breaker.set_function(lambda: float(self.state in (AWAY, FAILING)))

    def change(self, state: State, details: str = "") -> None:
        """Take the state that a probe found; ``details`` are for the log alone."""
        if state != self.state:
            level = logging.INFO if state.ready else logging.WARNING
            logger.log(level, "%s%s", state.reason, details and f" ({details})")
        if state.ready:
            self.failures = 0
        self.state = state

    def record_failure(self) -> None:
        """Count a search that failed; after some in a row none is tried before the next probe."""
        self.failures += 1
        if self.failures >= FAILURES and self.state.ready:
            self.state = FAILING
            logger.warning(FAILING.reason)
