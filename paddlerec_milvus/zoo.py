# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Loads a model folder that keeps PaddleRec's contract.

Such a folder imports its own files by bare names (``import net``) and opens its data relative to
itself. So its code runs with the folder first on ``sys.path`` and as the working directory, and the
modules that it brought are taken out of ``sys.modules`` afterwards: two folders, each with a
``net.py``, live in one process without seeing each other.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from paddlerec_milvus.errors import ModelError, UserError


class DygraphModel(Protocol):
    """What ``dygraph_model.py`` holds; ``infer_forward`` of a recall model gives user vectors."""

    def create_model(self, config: Mapping[str, Any]) -> Any:
        """Build the paddle layer."""

    def create_optimizer(self, dy_model: Any, config: Mapping[str, Any]) -> Any:
        """Build the paddle optimizer."""

    def create_metrics(self) -> tuple[list[Any], list[str]]:
        """Build the metrics of an epoch and their names."""

    def train_forward(
        self, dy_model: Any, metrics_list: list[Any], batch_data: Any, config: Mapping[str, Any]
    ) -> tuple[Any, list[Any], dict[str, Any] | None]:
        """Give the loss, the metrics and what to print."""

    def infer_forward(
        self, dy_model: Any, metrics_list: Any, batch_data: Any, config: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """Recall models: give user vectors [B, K, D] and weights."""


class ModelFolder:
    """One model folder, e.g. ``models/recall/mind``."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        if not (self.path / "dygraph_model.py").is_file():
            raise ModelError(
                f"{self.path}: no dygraph_model.py; a model folder holds it beside its yaml"
            )
        self._modules: dict[str, ModuleType] = {}
        self._inside = False

    def _owns(self, module: object) -> bool:
        # not getattr: some packages' modules answer it with whatever is asked for
        own = getattr(module, "__dict__", {})
        places = [own.get("__file__"), *(own.get("__path__") or ())]
        return any(place and Path(place).is_relative_to(self.path) for place in places)

    def _names(self) -> set[str]:
        """The modules and packages that an import finds here."""
        modules = {file.stem for file in self.path.glob("*.py")}
        return modules | {file.parent.name for file in self.path.glob("*/__init__.py")}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the folder's code in its own surroundings; everything is put back afterwards."""
        if self._inside:
            yield
            return
        # by name first: to ask each of thousands of modules where it lies takes longer than a batch
        own = self._names()
        named = [name for name in sys.modules if name.partition(".")[0] in own]
        hidden = {name: sys.modules[name] for name in named if not self._owns(sys.modules[name])}
        for name in hidden:
            del sys.modules[name]
        foreign = set(sys.modules)
        sys.modules.update(self._modules)
        search_path, directory = list(sys.path), Path.cwd()
        sys.path.insert(0, str(self.path))
        os.chdir(self.path)
        self._inside = True
        try:
            yield
        finally:
            self._inside = False
            sys.path[:] = search_path
            brought = [(name, sys.modules[name]) for name in set(sys.modules) - foreign]
            self._modules = {name: module for name, module in brought if self._owns(module)}
            for name in self._modules:
                del sys.modules[name]
            sys.modules.update(hidden)
            os.chdir(directory)

    def _import(self, name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or name
            what = "is not in it" if missing == name else f"needs the package '{missing}'"
            raise ModelError(f"{self.path}: module '{name}' {what}") from error
        except (ImportError, SyntaxError) as error:
            raise ModelError(f"{self.path}: module '{name}': {error}") from error

    def dygraph_model(self) -> DygraphModel:
        """``dygraph_model.DygraphModel()``; call its methods inside ``active()``."""
        with self.active():
            module = self._import("dygraph_model")
            if not hasattr(module, "DygraphModel"):
                raise ModelError(f"{self.path}/dygraph_model.py: has no class DygraphModel")
            model: DygraphModel = module.DygraphModel()
            return model

    def reader(self, name: str, files: Sequence[Path], config: Mapping[str, Any]) -> Iterable[Any]:
        """``RecDataset(file_list, config)`` of the module that a ``*_reader_path`` names."""
        with self.active(), self.settings_errors():
            module = self._import(name)
            if not hasattr(module, "RecDataset"):
                raise ModelError(f"{self.path}/{name}.py: has no class RecDataset")
            dataset: Iterable[Any] = module.RecDataset([str(f) for f in files], config=config)
            return dataset

    @contextmanager
    def settings_errors(self) -> Iterator[None]:
        """What the folder raises about its settings, data or packages becomes a user's error."""
        try:
            yield
        except UserError:
            raise
        except ModuleNotFoundError as error:
            raise ModelError(f"{self.path}: needs the package '{error.name}'") from error
        except (ValueError, OSError) as error:
            raise ModelError(f"{self.path.name}: {error}") from error
