# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a user can mend. Each message says what was wrong, what was given and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Base of all mistakes that a user can mend; the command lines print it in one line, exit 2."""


class SettingsError(UserError):
    """A yaml key, an ``-o`` override or a command-line value that cannot be used."""


class DataError(UserError):
    """A click log, an item table or a prepared folder that cannot be read."""


class ModelError(UserError):
    """A model folder that does not keep the contract."""


class CheckpointError(UserError):
    """A checkpoint that is missing, does not fit the model or cannot be written."""


class TrainingError(UserError):
    """Training that cannot go on: the loss is no longer a number, or a process was lost."""


class RetrievalError(UserError):
    """Milvus is away, refuses a call, or holds something else than expected."""


class RefusedError(RetrievalError):
    """Milvus answers, and what was asked cannot be done: an index type or a parameter that it
    lacks, a collection that is not as expected."""


class ForeignError(RefusedError):
    """Milvus holds something under our name that we did not make."""


class BuildConflictError(RefusedError):
    """Another build of the same collection is under way, or has won."""


# the top-level modules that extras of setup.cfg bring, where a missing one is met by its import
EXTRAS = {
    "train": (
        *("lightgbm", "matplotlib", "milvus_lite", "onnx", "onnxruntime", "paddle", "scipy"),
        "visualdl",
    ),
    "serve": (
        *("cachetools", "fastapi", "fastapi_offline", "httptools", "httpx", "limits"),
        *("prometheus_client", "pythonjsonlogger", "starlette", "threadpoolctl"),
        *("uvicorn", "uvloop"),
    ),
    "export": ("paddle2onnx",),
    "bench": ("hdrh", "jinja2", "plotly"),
}


class MissingPackageError(UserError):
    """A package that this project needs is not installed."""

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> MissingPackageError:
        """What to install for ``error``; a missing module of our own is raised again."""
        name = (error.name or "").partition(".")[0]
        if name in ("", "paddlerec_milvus"):
            raise error
        extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
        remedy = (
            "`paddlerec-milvus doctor` and `pip check` say what is missing"
            if extra is None
            else f"pip install 'paddlerec-milvus[{extra}]'"
        )
        return cls(f"this needs {name}, which is not installed: {remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f" (did you mean '{close[0]}'?)" if close else ""


_SECRETS = re.compile(
    r"""(?<=://)\S+(?=@)|((?<=token[=:])|(?<=password[=:]))('[^']*'|"[^"]*"|\S+)"""
)


def redacted(text: str) -> str:
    """Words of a command line or a yaml, without a password in an address and without a token."""
    return _SECRETS.sub("…", text)
