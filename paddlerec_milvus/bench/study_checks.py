# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The section ``studies`` of a sweep, checked before anything is built."""

from __future__ import annotations

from paddlerec_milvus.bench.sweep_config import StudyConfig, SweepConfig, check_reaches
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.base import LARGEST_K
from paddlerec_milvus.retrieval.indexes import Index, index_from_settings


def study_index(sweep: SweepConfig) -> Index:
    """What ``studies.index`` names. SettingsError: a type, a key or a value that it cannot have."""
    settings = dict(sweep.studies.index)
    try:
        return index_from_settings(str(settings.pop("type", "HNSW")), settings, others=False)
    except SettingsError as error:
        raise SettingsError(str(error).replace("index.", "studies.index.")) from error


def check_studies(sweep: SweepConfig) -> None:
    """SettingsError, naming the yaml's key: what cannot be done whatever the vectors are."""
    studies, k = sweep.studies, sweep.k
    index = study_index(sweep)
    if "index" in studies.model_fields_set:
        try:
            check_reaches(index, studies.index, k)
        except SettingsError as error:
            raise SettingsError(f"studies.index: {error}") from error
    for ids in studies.exclude_ids:
        if ids + k > LARGEST_K:
            raise SettingsError(
                f"studies.exclude_ids: {ids:,} and k {k:,} are more than the {LARGEST_K:,} "
                "neighbours that Milvus gives a query; exclude fewer"
            )
    for items in studies.scale_items:
        if items < k:
            raise SettingsError(
                f"studies.scale_items: {k} neighbours of {items:,} items cannot be found; "
                "lower k or take more items"
            )
        _check_cells(index, items, "studies.scale_items")
    if studies.upsert_rates and sweep.server == "lite":
        raise SettingsError(
            "studies.upsert_rates: another process writes there, and Milvus Lite serves one "
            "process alone; leave them out, or give another server"
        )


def check_studies_fit(sweep: SweepConfig, items: int) -> None:
    """SettingsError, naming the yaml's key: what cannot be done with so many ``items``."""
    studies = sweep.studies
    if _on_the_items(studies):
        _check_cells(study_index(sweep), items, "the data")
    for ids in studies.exclude_ids:
        if ids + sweep.k > items:
            raise SettingsError(
                f"studies.exclude_ids: without {ids:,} of {items:,} items less than k "
                f"{sweep.k:,} are left; exclude fewer"
            )
    for share in studies.replaced_shares:
        if int(share * items) < 1:
            raise SettingsError(
                f"studies.replaced_shares: {share:g} of {items:,} items is not one item; "
                "replace more"
            )


def _on_the_items(studies: StudyConfig) -> bool:
    """Whether a study builds its index on the sweep's own items."""
    lists = (studies.exclude_ids, studies.filter_shares, studies.upsert_rates)
    return any(lists) or bool(studies.replaced_shares or studies.freshness_tries)


def _check_cells(index: Index, items: int, where: str) -> None:
    cells = int(index.build_params().get("nlist", 0))
    if cells > items:
        raise SettingsError(
            f"studies.index.nlist: {cells:,} cells on the {items:,} items of {where}: there "
            "cannot be more cells than items; lower nlist"
        )
