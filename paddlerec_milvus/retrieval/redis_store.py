# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Histories in Redis or Valkey: any number of processes may add to them at the same time.

A user is two keys: ``{prefix}:{{i7}}:clicks``, a list of clicks, each its time in milliseconds and
the item in JSON, and ``{prefix}:{{i7}}:about``, a hash with the number of all clicks there ever
were and the tokens of the last events that had an idempotency key. The braces put both into one
slot. Every change is one script, so it is done as a whole, in the order in which Redis takes them.

What is acknowledged is as safe as Redis is set: ``appendfsync always`` writes it to the disk first,
``everysec`` may lose the last second or two, no append-only file all since the last snapshot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.user_history import (
    KEY_DIGITS,
    MOST_CLICKS,
    MOST_TOKENS,
    TOKEN_DIGITS,
    ClickEvent,
    HistoriesAwayError,
    OwnId,
    UserState,
    check_user,
    is_repeated,
    tagged,
    times_of,
    untagged,
)

SCHEMES = ("redis", "rediss", "unix")
USERS_PER_CALL = 256
NO_INTERESTS = np.zeros((0, 0), np.float32)
PUSHED = 1_000  # clicks in one command of a script

# KEYS: clicks, about. The list is ordered by time; what is later than the event goes behind it.
_COMMON = f"""
local function push(first)
  for start = first, #ARGV, {PUSHED} do
    redis.call('RPUSH', KEYS[1], unpack(ARGV, start, math.min(start + {PUSHED - 1}, #ARGV)))
  end
end
local function expire(milliseconds)
  for _, key in ipairs(KEYS) do
    if milliseconds == '0' then redis.call('PERSIST', key)
    else redis.call('PEXPIRE', key, milliseconds) end
  end
end
"""

# ARGV: token, time, clicks of the event, expiry, items. The number of clicks that are kept, or
# tokens that hold this one or its key already.
_APPEND = (
    _COMMON
    + f"""
local token, time = ARGV[1], tonumber(ARGV[2])
local tokens = redis.call('HGET', KEYS[2], 'tokens') or ''
if token ~= '' then
  local key = string.sub(token, 1, {KEY_DIGITS})
  for place = 1, #tokens, {TOKEN_DIGITS} do
    if string.sub(tokens, place, place + {KEY_DIGITS - 1}) == key then
      return {{redis.call('LLEN', KEYS[1]), tokens}}
    end
  end
  redis.call('HSET', KEYS[2], 'tokens', string.sub(tokens .. token, {-MOST_TOKENS * TOKEN_DIGITS}))
end
local function last_time()
  local last = redis.call('LINDEX', KEYS[1], -1)
  return last and tonumber(string.match(last, '^%d+')) or 0
end
local later = {{}}
if time then
  while last_time() > time do table.insert(later, redis.call('RPOP', KEYS[1])) end
else
  local now = redis.call('TIME')
  time = math.max(now[1] * 1000 + math.floor(now[2] / 1000), last_time())
end
for place = 5, #ARGV do ARGV[place] = string.format('%.0f ', time) .. ARGV[place] end
push(5)
for place = #later, 1, -1 do redis.call('RPUSH', KEYS[1], later[place]) end
redis.call('LTRIM', KEYS[1], {-MOST_CLICKS}, -1)
redis.call('HINCRBY', KEYS[2], 'clicks', ARGV[3])
expire(ARGV[4])
return {{redis.call('LLEN', KEYS[1]), ''}}
"""
)

# ARGV: clicks as they were read ('' for nobody), clicks, tokens, expiry, clicks with their times.
# 1, or 0 where the user has clicked since, and nothing is changed.
_REPLACE = (
    _COMMON
    + """
if (redis.call('HGET', KEYS[2], 'clicks') or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
if ARGV[2] == '' then return 1 end
push(5)
redis.call('HSET', KEYS[2], 'clicks', ARGV[2], 'tokens', ARGV[3])
expire(ARGV[4])
return 1
"""
)


class AppendedEvent(NamedTuple):
    """What became of an event."""

    history: int
    """Clicks that are kept of the user."""
    repeated: bool
    """It had been stored before; nothing was added."""


class RedisUserStore:
    """The histories of the users of ``prefix`` in the Redis or Valkey at ``uri``.

    ``uri``: ``redis://[user:password@]host:port/db``, ``rediss://`` for TLS, ``unix://path``;
    further options of redis-py that begin with ``ssl_`` behind a ``?``. ``timeout`` seconds for
    every call; no call is tried twice. ``days`` without a click after which a user is forgotten,
    None: never. Connects at the first call. Safe to use from several threads. All methods raise
    HistoriesAwayError when Redis is away or refuses.
    """

    def __init__(
        self, uri: str, prefix: str, *, timeout: float = 30.0, days: float | None = None
    ) -> None:
        redis = _redis()
        self.address = checked_address(uri)
        self._prefix, self._timeout = prefix, timeout
        self._expiry = str(round((days or 0) * 86_400_000))
        self._errors = (redis.RedisError, OSError)
        try:
            self._client: Any = redis.Redis.from_url(
                uri,
                decode_responses=True,
                protocol=2,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),  # it could add twice
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
            )
            self._client.connection_pool.make_connection()
        except (ValueError, TypeError, redis.RedisError):
            raise _no_address() from None  # its own words could hold a password
        self._secret = self._client.connection_pool.connection_kwargs.get("password") or ""
        self._append = self._client.register_script(_APPEND)
        self._replace = self._client.register_script(_REPLACE)

    def warnings(self) -> list[str]:
        """What of Redis' settings may lose clicks that were acknowledged."""
        with self._answered():
            about = self._client.info()
        texts = []
        if not about.get("aof_enabled"):
            texts.append("has no append-only file: a restart loses clicks (appendonly yes)")
        if str(about.get("maxmemory_policy", "noeviction")) != "noeviction":
            texts.append("may evict histories when memory is short (maxmemory-policy noeviction)")
        return [f"Redis at {self.address} {text}" for text in texts]

    def append(self, user: OwnId, event: ClickEvent) -> AppendedEvent:
        """Add the clicks of ``event``, once; ReusedKeyError: its key came with another event."""
        items = [json.dumps(item) for item in event.items[-MOST_CLICKS:]]
        time = "" if event.time is None else str(event.time)
        head = [event.token, time, len(event.items), self._expiry]
        with self._answered():
            history, tokens = self._append(self._keys(user), [*head, *items])
        return AppendedEvent(int(history), is_repeated(tokens, event.token))

    def read(self, user: OwnId) -> UserState | None:
        """The state of ``user``, without interests; None: no click is known."""
        return self.read_all([user]).get(user)

    def read_all(self, users: Sequence[OwnId]) -> dict[OwnId, UserState]:
        """The states of those of ``users`` who are known; of some, none of the clicks was."""
        calls = self._client.pipeline(transaction=False)
        for user in users:
            clicks, about = self._keys(user)
            # the number first: after a click in between it is too small, and no write by it is done
            calls.hmget(about, "clicks", "tokens")
            calls.lrange(clicks, 0, -1)
        with self._answered():
            replies = calls.execute()
        states = {}
        for user, (count, tokens), clicks in zip(users, replies[::2], replies[1::2], strict=True):
            if count is not None:
                pairs = [click.split(" ", 1) for click in clicks]
                states[user] = UserState(
                    user,
                    [json.loads(item) for _, item in pairs],
                    int(count),
                    "",
                    NO_INTERESTS,
                    [int(time) for time, _ in pairs],
                    tokens or "",
                )
        return states

    def write_all(self, changes: Sequence[tuple[UserState, UserState | None]]) -> list[OwnId]:
        """Store each state in place of the one before, which is what :meth:`read_all` gave.

        Returns the users who clicked meanwhile: nothing was changed of them.
        """
        return self._replaced([(state.user, before, state) for state, before in changes])

    def remove_all(self, states: Sequence[UserState]) -> list[OwnId]:
        """Forget the users of ``states`` as they were read; returns those who clicked meanwhile."""
        return self._replaced([(state.user, state, None) for state in states])

    def _replaced(
        self, changes: Sequence[tuple[OwnId, UserState | None, UserState | None]]
    ) -> list[OwnId]:
        calls = self._client.pipeline(transaction=False)
        for user, before, state in changes:
            arguments = ["" if before is None else str(before.clicks), "", "", "0"]
            if state is not None:
                arguments[1:] = [str(state.clicks), state.tokens, self._expiry]
                clicks = zip(times_of(state), state.history, strict=True)
                arguments += [f"{time} {json.dumps(item)}" for time, item in clicks]
            self._replace(self._keys(user), arguments, calls)
        with self._answered():
            done = calls.execute()
        return [user for (user, _, _), was_done in zip(changes, done, strict=True) if not was_done]

    def delete(self, user: OwnId) -> None:
        """Forget ``user``; one who is not known is no error."""
        with self._answered():
            self._client.delete(*self._keys(user))

    def users(self) -> Iterator[list[OwnId]]:
        """All users, some hundreds at a time; those who come or go meanwhile may be missing."""
        first, last = f"{self._prefix}:{{", "}:clicks"
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", first) + "*" + last
        with self._answered():
            names: list[OwnId] = []
            for key in self._client.scan_iter(match=pattern, count=1_000):
                names.append(untagged(key[len(first) : -len(last)]))
                if len(names) == USERS_PER_CALL:
                    yield names
                    names = []
        yield names

    def close(self) -> None:
        """Close the connections; what is stored stays."""
        self._client.close()

    def _keys(self, user: OwnId) -> list[str]:
        check_user(user)
        name = f"{self._prefix}:{{{tagged(user)}}}"
        return [f"{name}:clicks", f"{name}:about"]

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """HistoriesAwayError for all that redis-py raises."""
        try:
            yield
        except self._errors as problem:
            raise HistoriesAwayError(self._explained(problem)) from None

    def _explained(self, problem: Exception) -> str:
        """Where, what and what to do; never with the password."""
        redis, where = _redis(), f"Redis at {self.address}"
        reason = " ".join(str(problem).split())
        if self._secret:
            reason = reason.replace(self._secret, "…")
        if isinstance(problem, redis.AuthenticationError):
            return f"{where} refuses the user or the password of SERVING_HISTORIES: {reason}"
        if isinstance(problem, redis.BusyLoadingError):
            return f"{where} is still loading what it holds: try again"
        if isinstance(problem, (redis.TimeoutError, TimeoutError)):
            return f"{where} did not answer within {self._timeout:g} s; try again"
        if isinstance(problem, (redis.ConnectionError, OSError)):
            return f"{where} is away ({reason}): is it running? SERVING_HISTORIES names it"
        return f"{where} refuses: {reason}"


def checked_address(uri: str) -> str:
    """``host:port/db`` or a path of ``uri``, without its secrets; SettingsError: it is no such uri.

    No part of a uri that cannot be used is shown: a password that is not encoded may be anywhere.
    """
    try:
        parts = urlsplit(uri)
        options = parse_qs(parts.query, keep_blank_values=True)
        place = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    except ValueError:
        raise _no_address() from None
    local = parts.scheme == "unix"
    known = {"db", "username", "password"} if local else {"db"}
    strange = [name for name in options if name not in known and not name.startswith("ssl_")]
    path_fits = bool(parts.path) if local else re.fullmatch(r"(/\d*)?", parts.path)
    if parts.scheme not in SCHEMES or parts.fragment or strange or not path_fits:
        raise _no_address()
    if "@" in parts.query or (not local and "@" in parts.path):
        raise _no_address()
    return parts.path if local else place + parts.path.rstrip("/")


def _no_address() -> SettingsError:
    return SettingsError(
        "SERVING_HISTORIES: expected 'milvus' or the address of a Redis or Valkey: "
        "redis://[user:password@]host:6379/0, rediss://… for TLS (?ssl_ca_certs=FILE and other "
        "ssl_ options behind it), unix:///path; characters such as @ / # ? % in a password are "
        "written %40 %2F %23 %3F %25. What was there is not shown: it may hold a password"
    )


def _redis() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError:
        raise SettingsError(
            "SERVING_HISTORIES names a Redis, and its client is not installed: "
            "pip install 'paddlerec-milvus[redis]'"
        ) from None
    return redis
