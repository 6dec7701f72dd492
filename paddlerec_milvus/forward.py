# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A trained checkpoint of a ranking, match or multitask folder: its test rows, its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import paddle

from paddlerec_milvus.checkpoint import load_parameters
from paddlerec_milvus.collate import collate, seed_everything
from paddlerec_milvus.data.files import reader_files
from paddlerec_milvus.errors import DataError, ModelError
from paddlerec_milvus.settings import Settings
from paddlerec_milvus.zoo import ModelFolder


class ForwardModel:
    """A model folder in evaluation mode, by its own ``create_metrics`` and ``infer_forward``.

    ``searched`` says that it is a recall model instead: it has ``DygraphModel.item_vectors``, or
    no metrics of its own and a table ``dy_model.item_emb``.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.config = settings, settings.dotted()
        self.folder = ModelFolder(settings.model_dir)
        self.contract = self.folder.dygraph_model()
        self.names: list[str] = []
        """Of the metrics."""
        self.searched = hasattr(self.contract, "item_vectors")
        if self.searched:
            return
        folder, guard = self.folder, paddle.utils.unique_name.guard()
        with folder.active(), folder.settings_errors(), guard:
            if hasattr(self.contract, "create_metrics"):
                _, self.names = self.contract.create_metrics()
            self.model = self.contract.create_model(self.config)
        self.model.eval()
        self.searched = not self.names and hasattr(self.model, "item_emb")
        for name in ("create_metrics", "infer_forward"):
            if not self.searched and not hasattr(self.contract, name):
                raise ModelError(f"{self.folder.path}: DygraphModel has no {name}")

    def load(self, checkpoint: Path) -> None:
        """Load ``checkpoint/rec.pdparams``; CheckpointError lists what differs."""
        with self.folder.active():
            adapt = getattr(self.contract, "adapt_state_dict", None)
            load_parameters(checkpoint, self.model, adapt)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """All rows of ``runner.test_data_dir`` as batches, also a last part of one: rows, tensors.

        The generators that a reader may draw from start at ``runner.seed`` each time. DataError
        says where the folder's reader fails.
        """
        where, runner = self.settings.path("test_data_dir"), self.settings.runner
        files = reader_files(where, "runner.test_data_dir")
        dataset = self.folder.reader(runner.infer_reader_path, files, self.config)
        seed_everything(runner.seed)
        rows = 0
        try:
            samples = _samples(dataset)
            while batch := list(islice(samples, runner.infer_batch_size)):
                yield len(batch), collate(batch)
                rows += len(batch)
        except (ValueError, LookupError, TypeError, OSError) as error:
            raise DataError(
                f"{where}: the reader {runner.infer_reader_path} of {self.folder.path.name} fails "
                f"in the batch after row {rows:,}: {type(error).__name__}: {error}"
            ) from error
        if not rows:
            raise DataError(f"{where}: the reader {runner.infer_reader_path} gives no row of it")

    def forward(
        self, metrics: list[Any], batch: Any, rows: int
    ) -> tuple[list[Any], Mapping[str, Any]]:
        """``infer_forward`` of a batch of ``rows``: the metrics with it, and what it prints.

        ModelError: it fails, or returns something else.
        """
        try:
            with paddle.no_grad():
                result = self.contract.infer_forward(self.model, metrics, batch, self.config)
        except (ValueError, RuntimeError, OSError) as error:
            size, hint = self.settings.runner.infer_batch_size, ""
            if rows < size:
                hint = f"; the last batch has {rows} rows, not {size}: if that is why, set "
                hint += "runner.infer_batch_size to a divisor of all rows"
            text = " ".join(str(error).split())
            raise ModelError(f"{self.folder.path}: infer_forward: {text}{hint}") from error
        first, printed = result if isinstance(result, tuple) and len(result) == 2 else (None, None)
        if not isinstance(first, list) or not isinstance(printed or {}, Mapping):
            raise ModelError(
                f"{self.folder.path}: infer_forward does not give (metrics_list, print_dict), as "
                "ranking, match and multitask models do; a recall model has "
                "DygraphModel.item_vectors or a layer item_emb"
            )
        if len(first) < len(self.names) or not (self.names or printed):
            raise ModelError(
                f"{self.folder.path}: nothing to evaluate by: create_metrics names "
                f"{', '.join(self.names) or 'no metric'}, infer_forward gives {len(first)} and "
                "prints nothing"
            )
        return first, printed or {}


def _samples(dataset: Any) -> Iterator[Any]:
    """One pass over a reader of either kind of paddle's: by iteration, or by number."""
    if isinstance(dataset, paddle.io.IterableDataset) or not hasattr(dataset, "__len__"):
        return iter(dataset)
    return (dataset[row] for row in range(len(dataset)))
