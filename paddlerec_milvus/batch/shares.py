# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which user belongs to which share of a job: by the id alone, whatever the order of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paddlerec_milvus.data.id_map import OwnId
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.user_history import tagged


class Share(NamedTuple):
    """The share ``number``, from 1, of ``total``."""

    number: int = 1
    total: int = 1

    def __str__(self) -> str:
        """As it stands in the names of files."""
        return f"{self.number}of{self.total}"

    @classmethod
    def parse(cls, text: str) -> Share:
        """The third of eight of ``3/8``. SettingsError: there is no such share."""
        parts = re.fullmatch(r"(\d+)/(\d+)", text)
        share = cls(int(parts[1]), int(parts[2])) if parts else cls(0, 0)
        if not 1 <= share.number <= share.total:
            raise SettingsError(f"--share {text}: no such share; 1/8 to 8/8 are those of eight")
        return share

    def holds(self, users: Iterable[OwnId]) -> npt.NDArray[np.bool_]:
        """For each of ``users`` whether the share is its."""
        numbers = (share_of(user, self.total) for user in users)
        mine: npt.NDArray[np.bool_] = np.fromiter(numbers, np.int64) == self.number
        return mine


def share_of(user: OwnId, count: int) -> int:
    """The share, 1 … ``count``, of the user with this id: the same for ever, and on any machine."""
    digest = blake2b(tagged(user).encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % count
