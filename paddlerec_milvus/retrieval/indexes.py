# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Index types and their parameters; Milvus' own spelling appears only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from paddlerec_milvus.errors import SettingsError, nearest
from paddlerec_milvus.settings import Settings

LARGEST_EF = 32_768  # Milvus' limit
LARGEST_SEARCH_LIST = 65_535  # Milvus' limit
ROWS_A_CELL = 39  # that Milvus' engine asks for; it silently makes fewer cells instead
SQ_BITS = {"SQ4U": 4, "SQ6": 6, "SQ8": 8, "BF16": 16, "FP16": 16}
"""Milvus' names of quantisers -> bits that each value of a vector takes."""


def _whole(key: str, value: object, low: int, high: int) -> None:
    """Raise SettingsError unless ``value`` is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SettingsError(
            f"index.{key}: {value!r} cannot be used; a whole number from {low:,} to {high:,}"
        )


@dataclass(frozen=True)
class Index:
    """What all index types share. A subclass names its parameters: Milvus' key -> field here."""

    type_name: ClassVar[str]
    build_fields: ClassVar[Mapping[str, str]] = {}
    search_fields: ClassVar[Mapping[str, str]] = {}
    reaching_k: ClassVar[str] = ""
    """The search parameter that Milvus refuses where it is smaller than k."""

    def build_params(self) -> dict[str, int | str]:
        """Parameters for building, by Milvus' names."""
        return {key: getattr(self, field) for key, field in self.build_fields.items()}

    @property
    def label(self) -> dict[str, int | str]:
        """Type and build parameters, as a yaml has them."""
        return {"type": self.type_name, **self.build_params()}

    def search_params(self, k: int) -> dict[str, int]:
        """Parameters for searching, by Milvus' names; what has to reach ``k`` is raised to it."""
        params = {key: int(getattr(self, field)) for key, field in self.search_fields.items()}
        if self.reaching_k:
            params[self.reaching_k] = max(params[self.reaching_k], k)
        return params

    @property
    def is_exact(self) -> bool:
        """Whether a search finds the true neighbours."""
        return False


@dataclass(frozen=True)
class Flat(Index):
    """Every vector is compared: exact, and the slowest."""

    type_name: ClassVar[str] = "FLAT"

    @property
    def is_exact(self) -> bool:
        """True: every row is compared."""
        return True


@dataclass(frozen=True)
class Ivf(Index):
    """Vectors in ``nlist`` cells around k-means centres; a search looks into ``nprobe`` of them.

    Fewer than k items come back if those cells hold fewer.
    """

    nlist: int = 1024
    nprobe: int = 16
    build_fields: ClassVar[Mapping[str, str]] = {"nlist": "nlist"}
    search_fields: ClassVar[Mapping[str, str]] = {"nprobe": "nprobe"}

    def __post_init__(self) -> None:
        _whole("nlist", self.nlist, 1, 65_536)
        _whole("nprobe", self.nprobe, 1, 65_536)
        if self.nprobe > self.nlist:
            raise SettingsError(
                f"index.nprobe: {self.nprobe} is more than index.nlist: {self.nlist}, and there "
                "are no more cells to look into; lower nprobe or raise nlist"
            )


@dataclass(frozen=True)
class IvfFlat(Ivf):
    """Cells of whole vectors."""

    type_name: ClassVar[str] = "IVF_FLAT"

    @property
    def is_exact(self) -> bool:
        """Whether a search looks into all cells."""
        return self.nprobe == self.nlist


@dataclass(frozen=True)
class IvfSq8(Ivf):
    """Cells of vectors with a byte a value."""

    type_name: ClassVar[str] = "IVF_SQ8"


@dataclass(frozen=True)
class IvfPq(Ivf):
    """Cells of vectors cut into ``m`` pieces, each the number of one of 2^``nbits`` pieces.

    ``m`` divides the dimension, or Milvus refuses the build.
    """

    m: int = 8
    nbits: int = 8
    type_name: ClassVar[str] = "IVF_PQ"
    build_fields: ClassVar[Mapping[str, str]] = {"nlist": "nlist", "m": "m", "nbits": "nbits"}

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("m", self.m, 1, 32_768)
        _whole("nbits", self.nbits, 1, 16)


@dataclass(frozen=True)
class Scann(Ivf):
    """Cells of vectors with 4 bits for two values; the best ``reorder_k`` are compared whole."""

    reorder_k: int = 256
    type_name: ClassVar[str] = "SCANN"
    search_fields: ClassVar[Mapping[str, str]] = {"nprobe": "nprobe", "reorder_k": "reorder_k"}
    reaching_k: ClassVar[str] = "reorder_k"

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole("reorder_k", self.reorder_k, 1, 1_000_000)


@dataclass(frozen=True)
class Hnsw(Index):
    """A layered graph with up to ``M`` edges a node; a search keeps ``ef`` nodes in view."""

    M: int = 16
    ef_construction: int = 200
    ef: int = 128
    type_name: ClassVar[str] = "HNSW"
    build_fields: ClassVar[Mapping[str, str]] = {"M": "M", "efConstruction": "ef_construction"}
    search_fields: ClassVar[Mapping[str, str]] = {"ef": "ef"}
    reaching_k: ClassVar[str] = "ef"

    def __post_init__(self) -> None:
        _whole("M", self.M, 2, 2_048)
        _whole("efConstruction", self.ef_construction, 1, LARGEST_EF)
        _whole("ef", self.ef, 1, LARGEST_EF)


@dataclass(frozen=True)
class HnswSq(Hnsw):
    """That graph over vectors of fewer bits a value; only newer Milvus have it (2.5, Lite 3)."""

    sq_type: str = "SQ8"
    type_name: ClassVar[str] = "HNSW_SQ"
    build_fields: ClassVar[Mapping[str, str]] = {**Hnsw.build_fields, "sq_type": "sq_type"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sq_type not in SQ_BITS:
            raise SettingsError(
                f"index.sq_type: {self.sq_type!r} is not known"
                f"{nearest(str(self.sq_type).upper(), SQ_BITS)}; one of {', '.join(SQ_BITS)}"
            )


@dataclass(frozen=True)
class DiskAnn(Index):
    """A graph on disk, its vectors short in memory; a search keeps ``search_list`` in view."""

    search_list: int = 128
    type_name: ClassVar[str] = "DISKANN"
    search_fields: ClassVar[Mapping[str, str]] = {"search_list": "search_list"}
    reaching_k: ClassVar[str] = "search_list"

    def __post_init__(self) -> None:
        _whole("search_list", self.search_list, 1, LARGEST_SEARCH_LIST)


@dataclass(frozen=True)
class AutoIndex(Index):
    """What the server picks by itself (2.3.5 and Lite: HNSW)."""

    type_name: ClassVar[str] = "AUTOINDEX"


_CLASSES: dict[str, type[Index]] = {
    index.type_name: index
    for index in (Flat, IvfFlat, IvfSq8, IvfPq, Scann, Hnsw, HnswSq, DiskAnn, AutoIndex)
}
TYPES = tuple(_CLASSES)
"""Milvus' names of all types that are known here."""


def most_cells(rows: int) -> int:
    """The largest ``nlist`` that Milvus builds on so many rows."""
    return max(1, rows // ROWS_A_CELL)


def build_keys(type_name: str) -> tuple[str, ...]:
    """The yaml's keys that decide a build of this type. SettingsError: no such type."""
    return tuple(_class_of(type_name).build_fields)


def search_keys(type_name: str) -> tuple[str, ...]:
    """The yaml's keys that each search of this type may choose. SettingsError: no such type."""
    return tuple(_class_of(type_name).search_fields)


def _class_of(type_name: str) -> type[Index]:
    if type_name not in _CLASSES:
        raise SettingsError(
            f"index.type: {type_name!r} is not known{nearest(str(type_name).upper(), TYPES)}; "
            f"one of {', '.join(TYPES)}"
        )
    return _CLASSES[type_name]


def search_span(index: Index, k: int) -> tuple[str, Index, Index] | None:
    """A search parameter's name and ``index`` with its weakest and strongest; None: it has none."""
    if isinstance(index, Ivf):
        return "nprobe", replace(index, nprobe=1), replace(index, nprobe=index.nlist)
    large = max(8 * k, 2_048)
    if isinstance(index, Hnsw):
        return "ef", replace(index, ef=k), replace(index, ef=min(LARGEST_EF, large))
    if isinstance(index, DiskAnn):
        longest = min(LARGEST_SEARCH_LIST, large)
        return "search_list", replace(index, search_list=k), replace(index, search_list=longest)
    return None


def index_of_settings(settings: Settings) -> Index:
    """The index of the section ``index``; SettingsError as :func:`index_from_settings`."""
    params = {key: value for key, value in settings.index.items() if key != "type"}
    return index_from_settings(str(settings.index.get("type", "FLAT")), params)


def index_from_settings(type: str, params: Mapping[str, Any], *, others: bool = True) -> Index:
    """The index for a yaml's ``index.type`` and the parameters beside it, in Milvus' spelling.

    The yaml may list the parameters of every type; those of the other types are left alone, or
    with ``others`` False refused. Raises SettingsError for an unknown type or key (with the nearest
    known one) or a bad value.
    """
    chosen = _class_of(type)
    fields = {**chosen.build_fields, **chosen.search_fields}
    known = {key for name in TYPES for key in (*build_keys(name), *search_keys(name))}
    for key in params:
        if key not in known:
            raise SettingsError(
                f"index.{key}: no index has this parameter{nearest(key, sorted(known))}; "
                f"{type} has: {', '.join(fields) or 'none'}"
            )
        if not others and key not in fields:
            raise SettingsError(
                f"index.{key}: {type} has no such parameter{nearest(key, fields)}; "
                f"it has: {', '.join(fields) or 'none'}"
            )
    return chosen(**{fields[key]: params[key] for key in fields if key in params})


def setting_name(index: Mapping[str, Any], search: Mapping[str, Any] | None = None) -> str:
    """``HNSW M 16, efConstruction 200, ef 96``: in Milvus' words."""
    words = {**index, **(search or {})}
    kind = words.pop("type")
    return f"{kind} {', '.join(f'{key} {value}' for key, value in words.items())}".strip()


def index_of_name(name: str, params: Mapping[str, Any], *, fit: bool = False) -> Index:
    """The index that :func:`setting_name` called so; ``params`` say how it is searched.

    ``fit``: an nprobe that was meant for more cells than it has looks into all of them. Raises
    SettingsError as :func:`index_from_settings`.
    """
    kind, _, words = name.partition(" ")
    pairs = (word.partition(" ") for word in words.split(", ") if word)
    built = {key: int(value) if value.isdecimal() else value for key, _, value in pairs}
    searched = dict(params)
    if fit and isinstance(cells := built.get("nlist"), int) and "nprobe" in searched:
        searched["nprobe"] = min(int(searched["nprobe"]), cells)
    return index_from_settings(kind, {**searched, **built})


def setting_options(index: Mapping[str, Any], search: Mapping[str, Any]) -> str:
    """``index.type=HNSW index.M=16 …``: what ``-o`` of tools/infer.py takes."""
    return " ".join(f"index.{key}={value}" for key, value in {**index, **search}.items())
