# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a plan takes for given: a node, prices, and quoted figures of Milvus' documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from paddlerec_milvus.config import read_mapping
from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.settings import Count, Section

PLAN_SETTINGS = Path(__file__).with_name("plan.yaml")
Positive = Annotated[float, Field(gt=0, strict=False)]
Part = Annotated[float, Field(ge=0, lt=1, strict=False)]


class Quote(Section):
    """Words of a document, the figure that rests on them, and where they stand."""

    figure: str
    words: str
    source: str


class PlanSettings(Section):
    """The assumptions of ``plan.yaml``, which says what each of them is."""

    p50_ms: Positive
    replicas: Count
    node_memory_gib: Positive
    headroom: Part
    memory_usd: Positive
    disk_usd: Positive
    loaded_share: Positive
    pq_code_share: Positive
    search_cache_share: Positive
    max_degree: Count
    quotes: list[Quote]

    @classmethod
    def read(cls, file: Path) -> PlanSettings:
        """The assumptions in a yaml; SettingsError names a key that is missing or wrong."""
        try:
            return cls(**read_mapping(file, "keys such as 'node_memory_gib:'"))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(map(str, problem["loc"]))
            raise SettingsError(f"{file}: {key}: {problem['msg']}") from error

    @property
    def usable_gib(self) -> float:
        """Of a node's memory, for the data that it is planned to serve."""
        return self.node_memory_gib * self.loaded_share * (1 - self.headroom)
