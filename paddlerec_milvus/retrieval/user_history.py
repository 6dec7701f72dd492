# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A user's clicks as every store of histories has them: ordered by their times, no event twice."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from paddlerec_milvus.errors import RetrievalError, SettingsError, UserError
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.connection import HISTORY_BYTES, OWN_ID_BYTES

OwnId = int | str
MOST_CLICKS = 1_000  # that a history keeps
KEY_DIGITS, CONTENT_DIGITS = 16, 8  # of a token, in hexadecimal
TOKEN_DIGITS = KEY_DIGITS + CONTENT_DIGITS
MOST_TOKENS = 100  # that are remembered of a user


class HistoriesAwayError(RetrievalError):
    """The store of histories, not that of the items, is away or refuses."""


class ReusedKeyError(UserError):
    """An idempotency key that came before with another event."""


class ClickEvent(NamedTuple):
    """Items that a user clicked, oldest first."""

    items: Sequence[OwnId]
    time: int | None = None
    """Milliseconds since 1970; None: they are the last clicks, whatever their time."""
    token: str = ""
    """By which a repetition is known: see :func:`token_of`."""


class UserState(NamedTuple):
    """What is known of a user."""

    user: OwnId
    """An int of 64 bits, or a string of 1 to 512 bytes."""
    history: list[OwnId]
    """The last items that the user clicked, oldest first; at most 1,000, and 64 kB as JSON."""
    clicks: int
    """How many there ever were: of two states, that with more is the newer."""
    checkpoint: str
    """Fingerprint of the model that made the interests; empty: they are not stored."""
    interests: FloatArray
    """[K, D] float32, K at most 16."""
    times: Sequence[int] = ()
    """Of each click of the history, in milliseconds since 1970, 0 where it is not known."""
    tokens: str = ""
    """Of the last events that had an idempotency key, one behind the other."""


def token_of(key: str, content: object) -> str:
    """The token of an event with the idempotency ``key``; ``content`` is what was sent."""
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (key, json.dumps(content))]
    return digests[0][:KEY_DIGITS] + digests[1][:CONTENT_DIGITS]


def is_repeated(tokens: str, token: str) -> bool:
    """Whether the event of ``token`` is in ``tokens``; ReusedKeyError: its key is, with another."""
    for start in range(0, len(tokens) if token else 0, TOKEN_DIGITS):
        if tokens[start : start + KEY_DIGITS] == token[:KEY_DIGITS]:
            if tokens[start : start + TOKEN_DIGITS] == token:
                return True
            raise ReusedKeyError(
                "this Idempotency-Key came before with other items or another time, and nothing "
                "was stored: send a new key with a new event, and the same with a repetition"
            )
    return False


def with_event(state: UserState, event: ClickEvent, now: int) -> UserState:
    """``state`` with the clicks of ``event`` behind all that are not later; at ``now``, in ms.

    An event without a time goes to the end. Nothing is cut off: see :func:`trimmed`.
    """
    times = times_of(state)
    time = max([now, *times[-1:]]) if event.time is None else event.time
    place = bisect_right(times, time)
    return state._replace(
        history=[*state.history[:place], *event.items, *state.history[place:]],
        clicks=state.clicks + len(event.items),
        times=[*times[:place], *[time] * len(event.items), *times[place:]],
        tokens=(state.tokens + event.token)[-MOST_TOKENS * TOKEN_DIGITS :],
    )


def times_of(state: UserState) -> list[int]:
    """A time for each click of the history."""
    return list(state.times) or [0] * len(state.history)


def joined(first: UserState, second: UserState | None) -> UserState:
    """The clicks of both, those of ``first`` before those of ``second`` at the same time."""
    if second is None:
        return first
    clicks = [
        *zip(times_of(first), first.history, strict=True),
        *zip(times_of(second), second.history, strict=True),
    ]
    clicks.sort(key=lambda click: click[0])
    return second._replace(
        history=[item for _, item in clicks],
        clicks=first.clicks + second.clicks,
        times=[time for time, _ in clicks],
        tokens=(first.tokens + second.tokens)[-MOST_TOKENS * TOKEN_DIGITS :],
    )


def holds(state: UserState, items: Sequence[OwnId], clicks: int) -> bool:
    """Whether ``items``, the last of ``clicks``, are in ``state``, before what came since."""
    since = state.clicks - clicks
    if since < 0:
        return False
    before = state.history[: max(0, len(state.history) - since)]
    return before == list(items[max(0, len(items) - len(before)) :])


def trimmed(state: UserState) -> UserState:
    """``state`` with as many of its last clicks as are kept of a user."""
    state = state._replace(history=state.history[-MOST_CLICKS:], times=state.times[-MOST_CLICKS:])
    while len(as_text(state).encode()) > HISTORY_BYTES:
        cut = 1 + len(state.history) // 10
        state = state._replace(history=state.history[cut:], times=state.times[cut:])
    return state


def as_text(state: UserState) -> str:
    """The history of ``state`` in JSON: the items alone where no more is known of them."""
    if not any(state.times) and not state.tokens:
        return json.dumps(state.history, ensure_ascii=False)
    steps = [later - time for time, later in pairwise([0, *times_of(state)])]
    content = {"items": state.history, "steps": steps, "tokens": state.tokens}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def from_text(text: str) -> tuple[list[OwnId], list[int], str]:
    """Items, times and tokens of what :func:`as_text` wrote."""
    content: Any = json.loads(text)
    if isinstance(content, list):
        return content, [], ""
    return content["items"], list(accumulate(content["steps"])), content["tokens"]


def tagged(user: OwnId) -> str:
    """``i7`` for the user 7, ``s7`` for "7"."""
    return f"i{user}" if isinstance(user, int) else f"s{user}"


def untagged(tag: str) -> OwnId:
    """The user of whom ``tag`` was made."""
    return int(tag[1:]) if tag[0] == "i" else tag[1:]


def is_storable(user: OwnId) -> bool:
    """Whether it is an int of 64 bits, or a string of 1 to 512 bytes."""
    if isinstance(user, int):
        return -(2**63) <= user < 2**63
    return 0 < len(user.encode()) <= OWN_ID_BYTES


def check_user(user: OwnId) -> None:
    """SettingsError: no store takes such an id."""
    if not is_storable(user):
        raise SettingsError(
            f"user {user!r:.60}: no such id; ints of 64 bits and strings of 1 to {OWN_ID_BYTES} "
            "bytes can be stored"
        )
