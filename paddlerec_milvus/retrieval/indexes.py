# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Index types and their parameters; Milvus' own spelling appears only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from paddlerec_milvus.errors import SettingsError, nearest

LARGEST_EF = 32_768  # Milvus' limit


def _whole(key: str, value: object, low: int, high: int) -> None:
    """Raise SettingsError unless ``value`` is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(
            f"index.{key}: {value!r} cannot be used; a whole number from {low:,} to {high:,}"
        )


@dataclass(frozen=True)
class Flat:
    """Every vector is compared: exact, and the slowest."""

    type_name: ClassVar[str] = "FLAT"

    def build_params(self) -> dict[str, int]:
        """Parameters for building: none."""
        return {}

    def search_params(self, k: int) -> dict[str, int]:
        """Parameters for searching: none."""
        return {}

    @property
    def is_exact(self) -> bool:
        """Always."""
        return True


@dataclass(frozen=True)
class IvfFlat:
    """Vectors in ``nlist`` cells around k-means centres; a search looks into ``nprobe`` of them."""

    nlist: int = 1024
    nprobe: int = 16
    type_name: ClassVar[str] = "IVF_FLAT"

    def __post_init__(self) -> None:
        _whole("nlist", self.nlist, 1, 65_536)
        _whole("nprobe", self.nprobe, 1, 65_536)
        if self.nprobe > self.nlist:
            raise SettingsError(
                f"index.nprobe: {self.nprobe} is more than index.nlist: {self.nlist}, and there "
                "are no more cells to look into; lower nprobe or raise nlist"
            )

    def build_params(self) -> dict[str, int]:
        """``nlist``."""
        return {"nlist": self.nlist}

    def search_params(self, k: int) -> dict[str, int]:
        """``nprobe``. Fewer than ``k`` items come back if the cells hold fewer."""
        return {"nprobe": self.nprobe}

    @property
    def is_exact(self) -> bool:
        """Whether a search looks into all cells."""
        return self.nprobe == self.nlist


@dataclass(frozen=True)
class Hnsw:
    """A layered graph with up to ``M`` edges a node; a search keeps ``ef`` nodes in view."""

    M: int = 16
    ef_construction: int = 200
    ef: int = 128
    type_name: ClassVar[str] = "HNSW"

    def __post_init__(self) -> None:
        _whole("M", self.M, 2, 2_048)
        _whole("efConstruction", self.ef_construction, 1, LARGEST_EF)
        _whole("ef", self.ef, 1, LARGEST_EF)

    def build_params(self) -> dict[str, int]:
        """``M`` and ``efConstruction``."""
        return {"M": self.M, "efConstruction": self.ef_construction}

    def search_params(self, k: int) -> dict[str, int]:
        """``ef``, raised to ``k`` where it is smaller: Milvus refuses less."""
        return {"ef": max(self.ef, k)}

    @property
    def is_exact(self) -> bool:
        """Never."""
        return False


Index = Flat | IvfFlat | Hnsw

# Milvus' key in a yaml -> the field here
_FIELDS: dict[str, dict[str, str]] = {
    "FLAT": {},
    "IVF_FLAT": {"nlist": "nlist", "nprobe": "nprobe"},
    "HNSW": {"M": "M", "efConstruction": "ef_construction", "ef": "ef"},
}
_CLASSES: dict[str, type[Index]] = {"FLAT": Flat, "IVF_FLAT": IvfFlat, "HNSW": Hnsw}


def index_from_settings(type: str, params: Mapping[str, Any]) -> Index:
    """The index for a yaml's ``index.type`` and the parameters beside it, in Milvus' spelling.

    The yaml may list the parameters of every type; those of the other types are left alone.
    Raises SettingsError for an unknown type or key (with the nearest known one) or a bad value.
    """
    if type not in _CLASSES:
        raise SettingsError(
            f"index.type: {type!r} is not known{nearest(type.upper(), _CLASSES)}; "
            f"one of {', '.join(_CLASSES)}"
        )
    fields = _FIELDS[type]
    known = [key for each in _FIELDS.values() for key in each]
    for key in params:
        if key not in known:
            raise SettingsError(
                f"index.{key}: no index has this parameter{nearest(key, known)}; "
                f"{type} has: {', '.join(fields) or 'none'}"
            )
    return _CLASSES[type](**{fields[key]: params[key] for key in fields if key in params})
