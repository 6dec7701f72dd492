# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""PaddleRec's ``.pdparams`` and ``.pdopt`` as arrays: pickles, and nothing that they name is run.

A pickle says by which functions its objects are made, and may name any function of any module. Here
a few names are known, those that ``paddle.save`` writes (Paddle 2 and 3, numpy 1 and 2, pickle
protocols 2 to 4), and each stands for a function of this module that makes an array or a plain
value. Arrays are never made by numpy's own unpickling: it may change numpy's types for everybody.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

TYPE_CODES = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} | {"b1", "c8", "c16"}
NATIVE_ORDERS = ("<", "|", "=")
SLICES = "UnpackBigParamInfor@@"  # of large parameters; the spelling is paddle's
TENSOR_NAMES = "StructuredToParameterName@@"


class _Type:
    """Stands for a ``numpy.dtype``."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in TYPE_CODES:
            raise pickle.UnpicklingError(f"an array of the type {code!r:.40} holds no parameters")
        self.numpy = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in NATIVE_ORDERS:
            raise pickle.UnpicklingError(f"an array's byte order is {state[1]!r:.40}")


class _Array:
    """Stands for a ``numpy.ndarray``, which a pickle makes empty and fills afterwards."""

    def __init__(self, *_: Any) -> None:
        self.numpy: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Type):
            raise pickle.UnpicklingError("an array without a type")
        array = np.ndarray(shape, kind.numpy, buffer=_bytes(content), order="F" if fortran else "C")
        if array.nbytes != len(content):
            raise pickle.UnpicklingError(f"{len(content):,} bytes for an array of {array.nbytes:,}")
        self.numpy = array


class _Name:
    """What a name in a pickle stands for; a pickle can call it and cannot change it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("changes what is no array")


def _bytes(text: Any) -> Any:
    """Bytes as they are, or as protocol 2 writes them: as text in latin-1."""
    return text.encode("latin-1") if isinstance(text, str) else text


def _scalar(kind: _Type, content: Any) -> Any:
    return np.frombuffer(_bytes(content), kind.numpy, 1)[0].item()


NAMES: Mapping[tuple[str, str], _Name] = {
    **{
        (f"numpy.{core}.multiarray", name): _Name(make)
        for core in ("core", "_core")
        for name, make in (("_reconstruct", _Array), ("scalar", _scalar))
    },
    ("numpy", "dtype"): _Name(_Type),
    ("numpy", "ndarray"): _Name(_Array),
    ("collections", "OrderedDict"): _Name(dict),
    ("builtins", "tuple"): _Name(tuple),
    ("__builtin__", "tuple"): _Name(tuple),
    ("__builtin__", "bytes"): _Name(lambda: b""),  # protocol 2 has no other way to write it
    ("_codecs", "encode"): _Name(lambda text, _: _bytes(text)),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Of :data:`NAMES` alone; all else is refused, and nothing is imported."""
        try:
            return NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {f'{module}.{name}':.80}, which no parameters need and which may be "
                "code: nothing was run"
            ) from None


def read_parameter_file(file: Path) -> Any:
    """What ``paddle.save`` wrote into ``file``: arrays by name, in dicts, lists and plain values.

    As ``paddle.load(file, return_numpy=True)`` gives it, without running what the file names. May
    raise any exception on a damaged or malicious file.
    """
    with file.open("rb") as content:
        _check_memo(content, file.stat().st_size)
        content.seek(0)
        loaded = _Unpickler(content, encoding="latin1").load()
    state = _values(loaded, {})
    if isinstance(state, dict):
        for name, parts in state.pop(SLICES, {}).items():
            slices = [state.pop(part) for part in parts["slices"]]
            state[name] = np.concatenate(slices).reshape(parts["OriginShape"])
        state.pop(TENSOR_NAMES, None)
    return state


def _check_memo(content: IO[bytes], most: int) -> None:
    """Refuse a place in the unpickler's memo beyond all reason: it would take as much memory."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > most:
            raise pickle.UnpicklingError(f"it asks for {argument:,} places of memory")


def _values(value: Any, done: dict[int, Any]) -> Any:
    """``value`` with arrays in place of what stood for them; what comes twice is made once."""
    if id(value) not in done:
        done[id(value)] = _value(value, done)
    return done[id(value)]


def _value(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, _Array) and value.numpy is not None:
        return value.numpy
    if isinstance(value, dict):
        return {_values(key, done): _values(part, done) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [_values(part, done) for part in value]
        if [type(part) for part in parts] == [str, np.ndarray] and isinstance(value, tuple):
            return parts[1]  # a tensor's name and its values
        return type(value)(parts)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__.lstrip('_')}")
