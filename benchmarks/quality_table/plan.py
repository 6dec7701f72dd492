# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What is to be done on which data: pieces of work, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.evaluation.baselines.ease import check_size
from quality_table import fusion, peer, training
from quality_table.baselines import CODE, METHODS, Method, Params, combinations
from quality_table.budget import length_in
from quality_table.data import DataSet
from quality_table.expected import Expected, known_params
from quality_table.models import PEERS, ModelRow, code_of
from quality_table.pieces import Piece
from quality_table.results import TrainerSpeed

BASELINE_SEEDS, PEER_MINUTES = 3, 5.0  # where the run says nothing of them


def model_piece(data: DataSet, name: str, yaml: Path, options: Sequence[str], maxlen: int) -> Piece:
    """A training of the model of ``yaml`` with the first seed, as long as its settings say."""
    params, code = {"options": list(options)}, code_of(yaml)
    return Piece(data, name, "measure", params, 1, maxlen, code, (str(yaml),))


@dataclass(frozen=True)
class Plan:
    """What to measure on which data."""

    data: Sequence[DataSet]
    methods: Sequence[str]
    models: Mapping[str, ModelRow]
    seeds: int | None  # of all that draws; None: as models.yaml says, BASELINE_SEEDS of baselines
    maxlen: int
    options: Sequence[str]  # of every model
    minutes: float | None  # of a training; None: as long as its settings say
    paddlerec: Path | None
    paddlerec_batches: int
    peer_python: str
    remi: Path | None  # a checkout of REMI
    peer_minutes: float
    retune: bool
    expected: dict[str, Expected]

    def baselines(self, data: DataSet) -> list[str]:
        """The baselines of the run, those left out that cannot be measured."""
        refused = self.refused(data)
        return [name for name in METHODS if name in self.methods and name not in refused]

    def tunings(self, data: DataSet, method: str) -> list[Piece]:
        """Trainings to choose parameters from; none where they are known, or there is no choice."""
        if not METHODS[method].tuned:
            return []
        if not self.retune and self.known(data, method) is not None:
            return []
        trainings, after = METHODS[method].trainings(), METHODS[method].after
        code = f"{CODE} {after}" if after else CODE  # what is tried on a training decides, too
        return [Piece(data, method, "tune", params, 1, self.maxlen, code) for params in trainings]

    def known(self, data: DataSet, method: str) -> Params | None:
        """Parameters that an earlier run chose from the same grid."""
        return known_params(self.expected, data, method, trials_of(METHODS[method]))

    def measures(self, data: DataSet, method: str, params: Params) -> list[Piece]:
        """Trainings of a baseline with the parameters that were chosen."""
        count = (self.seeds or BASELINE_SEEDS) if METHODS[method].seeded else 1
        piece = Piece(data, method, "measure", params, 1, self.maxlen)
        return [replace(piece, seed=seed) for seed in range(1, count + 1)]

    def rows(self) -> dict[str, ModelRow]:
        """The models of the run."""
        return {name: row for name, row in self.models.items() if name in self.methods}

    def speeds(self, data: DataSet) -> dict[str, Piece]:
        """A short run of each model that a budget may cut."""
        if self.minutes is None:
            return {}
        return {
            name: replace(self._of_row(data, name, row), stage="speed")
            for name, row in self.rows().items()
        }

    def trainings(self, data: DataSet, speeds: Mapping[str, TrainerSpeed]) -> list[Piece]:
        """Trainings of models with each seed, as long as ``speeds`` let the budget allow."""
        pieces = []
        for name, row in self.rows().items():
            piece = self._of_row(data, name, row)
            if self.minutes is not None:
                piece = replace(piece, params=self._cut(data, row, piece.params, speeds[name]))
            count = self.seeds or row.seeds
            pieces += [replace(piece, seed=seed) for seed in range(1, count + 1)]
        return pieces

    def _of_row(self, data: DataSet, name: str, row: ModelRow) -> Piece:
        return model_piece(data, name, row.yaml, [*row.options, *self.options], self.maxlen)

    def _cut(self, data: DataSet, row: ModelRow, params: Params, speed: TrainerSpeed) -> Params:
        """``params``, and the length of the run where the budget shortens it."""
        assert self.minutes is not None
        runner = training.settings_of(data, row.yaml, params["options"]).runner
        length = length_in(row.minutes or self.minutes, speed, runner.epochs)
        if not length.batches:
            return params
        return params | {"length": list(length), "whole_epoch": speed.batches}

    def peers(self, data: DataSet) -> list[Piece]:
        """Trainings of other people's models, one seed each."""
        refused, pieces = self.refused(data), []
        if "mind_paddlerec" in self.methods and self.paddlerec is not None:
            yaml = self.paddlerec / "models" / "recall" / "mind" / "config.yaml"
            options = training.paddlerec_options(self.paddlerec_batches)
            pieces.append(model_piece(data, "mind_paddlerec", yaml, options, self.maxlen))
        for name, trained in peer.TRAINED.items():
            if name in self.methods and name not in refused:
                params = trained.settings_of(self.peer_minutes, self.maxlen)
                program = (self.peer_python, *([str(self.remi)] if trained.needs_checkout else []))
                piece = Piece(data, name, "measure", params, 1, self.maxlen, trained.code, program)
                pieces.append(piece)
        return pieces

    def refused(self, data: DataSet) -> dict[str, str]:
        """Methods that were asked for and cannot be measured, and why."""
        refused = {}
        for name in {"ease", "ease_gamma"} & set(self.methods):
            try:
                check_size(data.item_count)
            except SettingsError as error:
                refused[name] = str(error)
        if fusion.NAME in self.methods and len(set(METHODS) & set(self.methods) - {*refused}) < 2:
            refused[fusion.NAME] = "the fusion of two needs two baselines in --methods"
        if "mind_paddlerec" in self.methods and self.paddlerec is None:
            refused["mind_paddlerec"] = "MIND of PaddleRec needs --paddlerec DIR, a checkout"
        for name, trained in peer.TRAINED.items():
            if name not in self.methods:
                continue
            if trained.needs_checkout and self.remi is None:
                refused[name] = f"{PEERS[name]} needs --remi DIR, a checkout"
            elif lacks := peer.missing(name, self.peer_python):
                refused[name] = lacks
        return refused


def trials_of(method: Method) -> int:
    """How many settings its grid holds."""
    return len(method.trainings()) * len(combinations(method.after))
