# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Held-out users: ``user_id:7 target_item:0 hist_item:3 … eval_item:9 …`` lines, any length."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlerec_milvus.data.files import HashedFile, expand, read_bytes, writing
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.log import Ints
from paddlerec_milvus.errors import DataError, nearest

_KEYS = ("user_id", "target_item", "hist_item", "eval_item")
_USERS_PER_BLOCK = 10_000


@dataclass(frozen=True)
class HeldOutUsers:
    """Users with a history to encode and the truths that followed it. All arrays int64.

    U users, H history clicks, T truths. The history of user row u is
    ``history[history_indptr[u]:history_indptr[u + 1]]`` in time order, whole and uncut; the
    truths likewise. ``skipped`` counts lines without any truth, which cannot be measured.
    """

    user_ids: Ints  # [U]
    history_indptr: Ints  # [U + 1]
    history: Ints  # [H]
    truth_indptr: Ints  # [U + 1]
    truths: Ints  # [T]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.user_ids)

    def histories(self, maxlen: int) -> tuple[Ints, Ints]:
        """The last ``maxlen`` clicks of each user.

        Returns:
            history [U, maxlen] int64, padded with 0 on the right, and lengths [U] int64.

        Raises:
            SettingsError: ``maxlen`` is below 1.
        """
        return pad_histories(self.history_list(), maxlen)

    def history_list(self) -> list[Ints]:
        """One array of history clicks a user, in time order."""
        return np.split(self.history, self.history_indptr[1:-1]) if len(self) else []

    def truth_list(self) -> list[Ints]:
        """One array of truths a user; an item may be listed more than once."""
        return np.split(self.truths, self.truth_indptr[1:-1]) if len(self) else []

    def largest_item(self) -> int:
        """The largest item id of histories and truths; 0 without users."""
        return int(max(self.history.max(initial=0), self.truths.max(initial=0)))


class _Collector:
    """Grows the arrays of HeldOutUsers line by line."""

    def __init__(self) -> None:
        self.user_ids = array("q")
        self.history, self.truths = array("q"), array("q")
        self.history_indptr, self.truth_indptr = array("q", [0]), array("q", [0])
        self.skipped = 0

    def add(self, user_id: int, history: list[int], truths: list[int]) -> None:
        self.user_ids.append(user_id)
        self.history.extend(history)
        self.truths.extend(truths)
        self.history_indptr.append(len(self.history))
        self.truth_indptr.append(len(self.truths))

    def users(self) -> HeldOutUsers:
        return HeldOutUsers(
            user_ids=np.array(self.user_ids, np.int64),
            history_indptr=np.array(self.history_indptr, np.int64),
            history=np.array(self.history, np.int64),
            truth_indptr=np.array(self.truth_indptr, np.int64),
            truths=np.array(self.truths, np.int64),
            skipped=self.skipped,
        )


def read_held_out(paths: Path | Sequence[Path]) -> HeldOutUsers:
    """Read a folder of test lines, or the given files, in the order of their names.

    Lines without any ``eval_item`` are skipped and counted.

    Raises:
        DataError: an empty folder, a blank or malformed line, an item id below 1, a line without
            ``hist_item``, or no user at all. The message gives file and line.
    """
    files = expand(paths if isinstance(paths, Path | str) else list(paths))
    collected = _Collector()
    for file in files:
        _read_file(read_bytes(file), str(file), collected)
    if not collected.user_ids:
        names = ", ".join(map(str, files))
        raise DataError(
            f"{names}: no user with an eval_item ({collected.skipped} lines without one); "
            "expected lines such as 'user_id:7 target_item:0 hist_item:3 eval_item:9'"
        )
    return collected.users()


def _read_file(content: bytes, name: str, collected: _Collector) -> None:
    for number, line in enumerate(io.BytesIO(content.rstrip()), 1):
        values: dict[bytes, list[int]] = {b"hist_item": [], b"eval_item": []}
        try:
            for token in line.split():
                key, _, value = token.partition(b":")
                values.setdefault(key, []).append(int(value))
        except ValueError:
            raise DataError(_malformed(name, number, line)) from None
        history, truths = values[b"hist_item"], values[b"eval_item"]
        user_ids = values.get(b"user_id", [])
        if len(user_ids) != 1 or len(values) > (4 if b"target_item" in values else 3):
            raise DataError(_malformed(name, number, line))
        if min(history, default=1) < 1 or min(truths, default=1) < 1:
            raise DataError(
                f"{name}, line {number}: an item id below 1; ids start at 1, 0 is padding"
            )
        if not truths:
            collected.skipped += 1
            continue
        if not history:
            raise DataError(
                f"{name}, line {number}: user {user_ids[0]} has no hist_item, so there is nothing "
                "to recommend from; remove the line"
            )
        try:
            collected.add(user_ids[0], history, truths)
        except OverflowError:
            raise DataError(f"{name}, line {number}: an id that does not fit 64 bits") from None


def _malformed(name: str, number: int, line: bytes) -> str:
    """Say what is wrong with a line; called only once a line is known to be bad."""
    where = f"{name}, line {number}"
    tokens = line.decode("utf-8", "replace").split()
    if not tokens:
        return f"{where}: a blank line; remove it"
    for token in tokens:
        key, _, value = token.partition(":")
        if key not in _KEYS:
            return f"{where}: found '{token[:60]}', expected one of {', '.join(_KEYS)}" + nearest(
                key, _KEYS
            )
        try:
            int(value)
        except ValueError:
            return f"{where}: found '{token[:60]}', expected {key}:INTEGER"
    return f"{where}: expected exactly one user_id, found {line.count(b'user_id:')}"


def write_held_out(path: Path, users: HeldOutUsers) -> dict[str, str | int]:
    """Write test lines to ``path``; returns the file's size and SHA-256.

    Raises:
        DataError: the file cannot be written.
    """
    with writing(path) as file:
        write_lines(file, users)
        return file.record()


def write_lines(file: HashedFile, users: HeldOutUsers) -> None:
    """Write one line a user into an open file."""
    ids = users.user_ids.tolist()
    histories, truths = users.history.tolist(), users.truths.tolist()
    history_at, truth_at = users.history_indptr.tolist(), users.truth_indptr.tolist()
    for first in range(0, len(ids), _USERS_PER_BLOCK):
        lines = []
        for row in range(first, min(first + _USERS_PER_BLOCK, len(ids))):
            tokens = [f"user_id:{ids[row]}", "target_item:0"]
            tokens += [f"hist_item:{i}" for i in histories[history_at[row] : history_at[row + 1]]]
            tokens += [f"eval_item:{i}" for i in truths[truth_at[row] : truth_at[row + 1]]]
            lines.append(" ".join(tokens))
        file.write(("\n".join(lines) + "\n").encode())
