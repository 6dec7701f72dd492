# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The one door to pymilvus: every call has a deadline and fails with our own error.

The same calls serve Milvus Lite (a path that ends in ``.db``), a server and a managed Milvus.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.retrieval.lite import check_lite_path, lite_problem
from paddlerec_milvus.retrieval.plain_hits import answer_in_arrays
from paddlerec_milvus.settings import split_credentials

CATEGORY_BYTES = 256
OWN_ID_BYTES = 512  # of an id of the log
HISTORY_BYTES = 65_535  # of a history as JSON; Milvus takes no longer string
WRITES = ("insert", "upsert", "delete", "flush", "create_collection")
CLOSED_SECONDS = 0.5  # within which a machine says that nobody listens at a port
# what a server that starts, restarts or moves its parts says; not all of it is marked as passing
PASSING = re.compile(
    r"no available [\w ]*(coord|node|leader|delegator)|(service|server|node|channel|coord)\w* "
    r"(is )?not (ready|available|healthy|serving|online)|node offline|not fully loaded|rate limit",
    re.IGNORECASE,
)
SERVER_SCHEMES = ("http://", "https://", "tcp://", "unix:")


@cache
def _pymilvus() -> Any:
    """pymilvus, imported by the first connection: who searches elsewhere need not wait for it.

    It reads MILVUS_URI when it is imported and refuses a path there, though its client takes one;
    and it loads a .env file of the working folder, which an empty value keeps out.
    """
    uri = os.environ.get("MILVUS_URI")
    os.environ["MILVUS_URI"] = ""
    try:
        import pymilvus
    finally:
        if uri is None:
            del os.environ["MILVUS_URI"]
        else:
            os.environ["MILVUS_URI"] = uri
    # Both log a traceback for each refused call, also for those that we expect ("is there such an
    # alias?"). What matters of it is in the error that we raise. Importing one sets its level.
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus


def is_lite(uri: str) -> bool:
    """Whether ``uri`` is a file path, that is Milvus Lite, and no server's address."""
    return not uri.lower().startswith(SERVER_SCHEMES)


class Connection:
    """A connection to one Milvus: ``call("search", …)`` is ``MilvusClient.search(…)``.

    ``timeout`` in seconds bounds each call, connecting included. Raises RetrievalError with the
    address, what was tried and what to do; never with the token, or a password in ``uri``.
    """

    # Lite runs inside this process and holds its folder's lock until told otherwise
    _lite_users: ClassVar[Counter[str]] = Counter()
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _lite_writing: ClassVar[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)

    def __init__(
        self, uri: str, *, token: str = "", db_name: str = "", timeout: float = 30.0
    ) -> None:
        if timeout <= 0:
            raise RetrievalError(f"milvus.timeout: {timeout} is no time to wait; seconds above 0")
        uri, credentials = split_credentials(uri)
        token = token or credentials
        self.uri = uri
        self.timeout = timeout
        self._secrets = [text for text in (token, token.partition(":")[2]) if text]
        self._lite = str(Path(uri).absolute()) if is_lite(uri) else ""
        if self._lite:
            check_lite_path(uri)
        try:
            with self._lock:
                self._client: Any = _pymilvus().MilvusClient(
                    self._lite or uri,
                    token=token,
                    db_name=db_name,
                    timeout=timeout,
                    dedicated=True,  # so that close() closes
                )
                self._lite_users[self._lite] += 1
            if not self._lite:
                answer_in_arrays(self._client)
        except Exception as problem:
            raise self._explained("connect", problem, timeout) from self._shown(problem)

    @property
    def is_lite(self) -> bool:
        """Whether this is Milvus Lite."""
        return bool(self._lite)

    def call(self, name: str, *arguments: Any, within: float | None = None, **options: Any) -> Any:
        """``MilvusClient.name(*arguments, **options)`` in ``within`` (``timeout``) seconds.

        Raises RetrievalError for all that pymilvus raises.
        """
        if self._client is None:
            raise RetrievalError(f"the connection to Milvus at {self.uri} is closed")
        seconds = self.timeout if within is None else within
        if not self._lite and not options.get("filter", "").isascii():
            options["filter"] = _in_ascii(options["filter"])
        with self._writing(name, seconds):
            try:
                return getattr(self._client, name)(*arguments, timeout=seconds, **options)
            except Exception as problem:
                raise self._explained(name, problem, seconds) from self._shown(problem)

    @contextmanager
    def _writing(self, name: str, seconds: float) -> Iterator[None]:
        """One write at a time in Lite: two at once can leave its log without one of them.

        And of two that make the same collection the second would find its folder half made.
        RetrievalError: the one before took longer than ``seconds``.
        """
        if not self._lite or name not in WRITES:
            yield
            return
        lock = self._lite_writing[self._lite]
        if not lock.acquire(timeout=seconds):
            raise RetrievalError(
                f"Milvus Lite at {self.uri} was busy writing for {seconds:g} s: try '{name}' again"
            )
        try:
            yield
        finally:
            lock.release()

    def empty_schema(self) -> tuple[Any, Any]:
        """A schema without fields, and pymilvus' types of fields."""
        client = _pymilvus().MilvusClient
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        return schema, _pymilvus().DataType

    def create_collection(self, name: str, dimension: int, properties: dict[str, str]) -> None:
        """An empty collection of items: ``item``, ``category``, ``own_id``, ``vector``.

        ``own_id`` is for items beside the model's, where ids are strings; it may be left out.
        """
        schema, types = self.empty_schema()
        schema.add_field("item", types.INT64, is_primary=True)
        schema.add_field("category", types.VARCHAR, max_length=CATEGORY_BYTES)
        schema.add_field("own_id", types.VARCHAR, max_length=OWN_ID_BYTES, default_value="")
        schema.add_field("vector", types.FLOAT_VECTOR, dim=dimension)
        self.call("create_collection", name, schema=schema, properties=properties)

    def create_user_collection(self, name: str, dimension: int, properties: dict[str, str]) -> None:
        """An empty collection of users, a row for each interest of one: see :mod:`.users`."""
        schema, types = self.empty_schema()
        schema.add_field("key", types.VARCHAR, is_primary=True, max_length=4 * OWN_ID_BYTES)
        schema.add_field("user", types.VARCHAR, max_length=OWN_ID_BYTES + 1)
        schema.add_field("interest", types.INT64)
        schema.add_field("clicks", types.INT64)
        schema.add_field("history", types.VARCHAR, max_length=HISTORY_BYTES)
        schema.add_field("checkpoint", types.VARCHAR, max_length=64)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=dimension)
        self.call("create_collection", name, schema=schema, properties=properties)

    def create_index(
        self,
        name: str,
        type_name: str,
        metric: str,
        parameters: Mapping[str, int | str],
        within: float,
    ) -> None:
        """Order an index on ``vector``; a server builds it after this call, Lite inside it."""
        order = _pymilvus().MilvusClient.prepare_index_params()
        order.add_index("vector", index_type=type_name, metric_type=metric, params=dict(parameters))
        # Lite answers when all is built, and that may take longer than a call
        patience = within if self.is_lite else None
        self.call("create_index", name, order, sync=False, within=patience)

    def close(self) -> None:
        """Close; Lite lets go of its folder when its last user of this process closes."""
        client, self._client = self._client, None
        if client is None:
            return
        client.close()
        if not self._lite:
            return
        manager = importlib.import_module("milvus_lite.server_manager").server_manager_instance
        with self._lock:
            self._lite_users[self._lite] -= 1
            if not self._lite_users[self._lite]:
                manager.release_server(self._lite)

    def _without_secrets(self, text: str) -> str:
        """Words of Milvus' in which the token is not repeated."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return " ".join(text.split())

    def _shown(self, problem: Exception) -> Exception | None:
        """What a traceback may show of ``problem``: nothing where it repeats the token."""
        texts = [str(cause) for cause in _causes(problem)]
        return (
            None if any(secret in text for secret in self._secrets for text in texts) else problem
        )

    def _explained(self, name: str, problem: Exception, seconds: float) -> RetrievalError:
        """Our error for what pymilvus raised: where, what, and what to do."""
        where = f"Milvus at {self.uri}"
        words = str(getattr(problem, "message", "") or problem)
        reason = self._without_secrets(words)
        details = self._without_secrets(_grpc_details(problem))
        status = _grpc_status(problem)
        if status == "UNAUTHENTICATED":
            return RetrievalError(
                f"{where} refused the token: {details}. "
                "Set milvus.token or MILVUS_TOKEN (user:password, or an API key)"
            )
        if status == "UNIMPLEMENTED":
            return RetrievalError(
                f"{where} answers, but not as Milvus does: is that its gRPC port (19530 by "
                f"default)? {details}"
            )
        if status == "PERMISSION_DENIED":
            return RefusedError(
                f"{where} refused '{name}': {details}. Give the user of "
                "milvus.token that right, or set another token"
            )
        if self._lite and name == "connect":
            return RetrievalError(lite_problem(Path(self._lite), reason))
        away = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        if status in away or "server unavailable" in words or "Retry timeout" in words:
            closed = status != "DEADLINE_EXCEEDED" and not self._lite and _is_closed(self.uri)
            what = f"did not answer '{name}' within {seconds:g} s"
            return RetrievalError(
                f"{where} {'refuses connections' if closed else what}: is it running? "
                "Start one with `python -m paddlerec_milvus.retrieval.server`, set MILVUS_URI to "
                f"another{'' if closed else ', or raise milvus.timeout'}. ({details or reason})"
            )
        if getattr(problem, "retriable", False) or PASSING.search(reason):
            return RetrievalError(f"{where} cannot do '{name}' just now: {reason}. Try again soon")
        kind = (
            ""
            if isinstance(problem, _pymilvus().MilvusException)
            else f"{type(problem).__name__}: "
        )
        return RefusedError(f"{where} refused '{name}': {kind}{reason}")


def _is_closed(uri: str) -> bool:
    """Whether nobody listens at the address of a server."""
    try:
        address = urlsplit(uri)
        with socket.create_connection((address.hostname, address.port or 19530), CLOSED_SECONDS):
            return False
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):
        return False


def _in_ascii(expression: str) -> str:
    """``expression`` with its strings' other characters as ``\\u4e66``, as a server takes them.

    A server reads these a hundred times faster than the characters themselves; Lite knows none.
    """
    return "".join(
        one
        if one < "\x80"
        else f"\\u{ord(one):04x}"
        if one < "\U00010000"
        else f"\\U{ord(one):08x}"
        for one in expression
    )


def _causes(problem: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    step: BaseException | None = problem
    while step is not None and step not in causes:
        causes.append(step)
        step = step.__cause__ or step.__context__
    return causes


def _grpc_status(problem: BaseException) -> str:
    """The name of the gRPC status at the bottom of ``problem``, or an empty string."""
    for cause in _causes(problem):
        code = getattr(cause, "code", None)
        status = code() if callable(code) else code
        name = getattr(status, "name", None)
        if name is not None:
            return str(name)
    return ""


def _grpc_details(problem: BaseException) -> str:
    for cause in _causes(problem):
        details = getattr(cause, "details", None)
        if callable(details):
            return str(details())
    return ""
