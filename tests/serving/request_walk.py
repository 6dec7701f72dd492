# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files that a request enters, from the router of POST /candidates to Milvus and back.

``python tests/serving/request_walk.py`` prepares a small log, trains MIND on it for a moment,
serves it on Milvus Lite and prints the files in the order of their first entry.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import Response
from in_process import in_process

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.settings import ServiceSettings, service_settings
from paddlerec_milvus.training.cli import main as train

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, MODELS = f"paddlerec_milvus{os.sep}", f"models{os.sep}"
ROUTER = f"{PACKAGE}serving{os.sep}routers{os.sep}candidates.py"
REQUEST = {"hist_item": [[3, 7, 12]]}


class Walk:
    """Files of ours in the order of their first entry, relative to the project's folder."""

    def __init__(self) -> None:
        self.before: dict[str, None] = {}
        """Before the router's function: the middleware and the check of keys."""
        self.files: dict[str, None] = {}
        """From the router's function to its end."""
        self.model: dict[str, None] = {}
        """The model folder's own, in that time."""
        self._step: dict[str, None] | None = None
        self._entered = set[FrameType]()

    def begin(self) -> None:
        """From now on functions count, until the router's one has answered."""
        self._step = self.before

    def enter(self, frame: FrameType, event: str, argument: Any) -> None:
        """For sys.setprofile."""
        file = frame.f_code.co_filename
        step = self._step
        if step is None or not file.startswith(f"{ROOT}{os.sep}"):
            return
        file = file[len(str(ROOT)) + 1 :]
        is_router = file == ROUTER and frame.f_code.co_name == "candidates"
        if event == "call" and frame not in self._entered:  # a coroutine that goes on is no entry
            self._entered.add(frame)
            if is_router:
                step = self._step = self.files
            if file.startswith(PACKAGE) and (step is self.before or file not in self.before):
                step.setdefault(file)  # middleware that hands the body on is no new file
            elif file.startswith(MODELS):
                self.model.setdefault(file)
        elif event == "return" and is_router and isinstance(argument, Response):
            self._step = None


def walk_of(settings: ServiceSettings) -> Walk:
    """The walk of the second of two requests of a kind: the first one fills the caches."""
    walk = Walk()
    threading.setprofile(walk.enter)  # for the threads that the service starts
    try:
        with in_process(create_app(settings)) as service:
            service.http.post("/insert").raise_for_status()
            assert service.http.post("/candidates", json=REQUEST).json()["source"] == ["model"]
            walk.begin()
            service.http.post("/candidates", json=REQUEST).raise_for_status()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    return walk


def main() -> None:
    """Print the walk."""
    with tempfile.TemporaryDirectory() as name:
        data, out = Path(name) / "data", Path(name) / "out"
        size = ["--users", "600", "--items", "300", "--clicks", "9000"]
        assert prepare(["--sample", *size, "--out", str(data)]) == 0
        options = ["hyper_parameters.neg_samples=128", "runner.epochs=1"]
        arguments = ["-m", "mind/config.yaml", "--data", str(data), "-o", *options]
        assert train([*arguments, f"runner.model_save_path={out}"]) == 0
        options += [f"runner.infer_load_path={out}", f"milvus.uri={Path(name) / 'milvus.db'}"]
        settings = service_settings(
            "mind/config.yaml", [*options, "index.type=FLAT"], data, timeout=30.0, check_seconds=600
        )
        walk = walk_of(settings)
    for title, files in (
        ("before the router", walk.before),
        ("from the router to Milvus and back", walk.files),
        ("the model folder's own", walk.model),
    ):
        print(f"{title}: {len(files)}", *files, sep="\n  ")


if __name__ == "__main__":
    main()
