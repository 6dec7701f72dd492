# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A checkpoint is data: no file of it runs code, a changed one is refused, PaddleRec's load."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from small_layer import save, trained

from paddlerec_milvus.checkpoint import load_parameters, load_tensors
from paddlerec_milvus.checkpoint_record import CheckpointRecord, write_record
from paddlerec_milvus.data.fingerprint import DataIdentity
from paddlerec_milvus.errors import CheckpointError
from paddlerec_milvus.parameter_file import read_parameter_file
from paddlerec_milvus.training.checkpoint import (
    load_training_state,
    random_state,
    set_random_state,
)

RECORD = CheckpointRecord(
    run="0" * 16,
    model="linear",
    epoch=0,
    data=DataIdentity(name="log", folder="/data/log", fingerprint="0" * 16),
    seed=1,
    settings={},
    versions={},
    saved="2026-01-01T00:00:00+00:00",
)
FILES = ("rec.pdparams", "rec.pdopt", "rec.pdstate")


class Call:
    """Pickled as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def attacks(mark: Path) -> dict[str, bytes]:
    """Pickles that make ``mark`` where somebody runs what they say."""
    made = f"touch {mark}"
    genuine = {"weight": np.ones((4, 3), np.float32), "bias": np.ones(3, np.float32)}
    source = f"open({str(mark)!r}, 'w').close()"
    line = made.encode()
    return {
        "a call alone": pickle.dumps(Call(os.system, made)),
        "among genuine arrays": pickle.dumps({**genuine, "more": Call(os.system, made)}, 2),
        "in place of a key": pickle.dumps({Call(os.system, made): 1}),
        "eval, as paddle saves a DenseTensor": pickle.dumps({"w": Call(eval, source)}),
        "exec": pickle.dumps({"w": Call(exec, source)}),
        "a method of a class that is known": pickle.dumps(Call(Path.touch, mark)),
        "protocol 0": pickle.dumps([Call(os.system, made)], 0),
        "INST": b"(V" + line + b"\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nV" + line + b"\no.",
        "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x1cf2py.diagnose.os.system_dummy.\x93.",
        "numpy's way to open files": b"cnumpy\nmemmap\n(V" + str(mark).encode() + b"\nVuint8\nVw+\n"
        b"I0\n(I1\nttR.",
    }


def checkpoint(folder: Path, *, record: bool = False) -> tuple[Path, Any, Any]:
    """A checkpoint of a small layer after one step of Adam, the layer and the optimizer."""
    save(folder)
    if record:
        write_record(folder, RECORD)
    return folder, *trained()


def load(folder: Path, layer: Any, optimizer: Any) -> None:
    load_parameters(folder, layer)
    set_random_state(load_training_state(folder, optimizer).random)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("attack", list(attacks(Path())))
def test_no_file_of_a_checkpoint_runs_code(tmp_path: Path, name: str, attack: str) -> None:
    mark = tmp_path / "mark"
    folder, *trained = checkpoint(tmp_path / "0")
    (folder / name).write_bytes(attacks(mark)[attack])
    with pytest.raises(CheckpointError, match=rf"{folder}"):
        load(folder, *trained)
    assert not mark.exists()


def test_the_attacks_do_work_on_who_trusts_a_pickle(tmp_path: Path) -> None:
    """Or the test above would hold nothing."""
    pickle.loads(attacks(tmp_path / "mark")["a call alone"])
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "change",
    [
        # BUILD with a state for a name itself; for numpy's own float32; for a place in memory
        b"cnumpy\ndtype\n}(V__init__\nNsub.",
        b"cnumpy\ndtype\n(N}V_make\ncnumpy\nndarray\nstb.",
        b"cnumpy\ndtype\n(Vf4\nI00\nI00\ntR(I3\nV>\nNNNI-1\nI-1\nI0\ntb.",
        b"Nr" + struct.pack("<I", 0xFFFFFFF0) + b".",
        b"cnumpy.core.multiarray\n_reconstruct\n)R(I1\n(I-2\ntcnumpy\ndtype\n(Vf4\ntRI00\nVabcd\ntb.",
        b"cnumpy\ndtype\n(VO\ntR.",
    ],
)
def test_a_pickle_changes_nothing_that_others_use(tmp_path: Path, change: bytes) -> None:
    file = tmp_path / "rec.pdparams"
    file.write_bytes(change)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_tensors(file)
    assert np.dtype("f4").byteorder == "="
    folder, *trained = checkpoint(tmp_path / "0")
    load(folder, *trained)


def test_many_parts_of_one_part_end(tmp_path: Path) -> None:
    file, lists = tmp_path / "rec.pdparams", [0]
    for _ in range(60):
        lists = [lists] * 60
    file.write_bytes(pickle.dumps(lists, 4))
    with pytest.raises(CheckpointError, match="holds a list"):
        load_tensors(file)
    lists.append(lists)
    file.write_bytes(pickle.dumps(lists, 4))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(file)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("numpy_1", [True, False])
def test_what_paddle_saves_is_read_as_paddle_reads_it(
    tmp_path: Path, protocol: int, numpy_1: bool
) -> None:
    if numpy_1 and protocol == 4:
        pytest.skip("its names carry their length")
    schedule = paddle.optimizer.lr.LinearWarmup(
        paddle.optimizer.lr.NoamDecay(8, 100, np.float64(0.5)), 5, 0.0, 0.1
    )
    layer = paddle.nn.Sequential(paddle.nn.Linear(4, 3), paddle.nn.LayerNorm(3))
    optimizer = paddle.optimizer.Adam(schedule, parameters=layer.parameters())
    layer(paddle.ones([2, 4])).sum().backward()
    optimizer.step()
    of_kinds = {
        kind: paddle.ones([2, 3]).astype(kind)
        for kind in ("float16", "bfloat16", "float64", "int64", "bool", "uint8", "complex64")
    }
    nested = collections.OrderedDict(a=[paddle.ones([3])], b=(paddle.zeros([0, 3]), 1, "x"))
    saved = {"p": layer.state_dict(), "o": optimizer.state_dict(), "k": of_kinds, "n": nested}
    saved["f"] = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "scalar": np.float64(2)}
    for name, state in saved.items():
        file = tmp_path / name
        paddle.save(state, str(file), protocol=protocol)
        if numpy_1:
            content = file.read_bytes()
            assert b"numpy._core." in content
            file.write_bytes(content.replace(b"numpy._core.", b"numpy.core."))
        assert_same(read_parameter_file(file), paddle.load(str(file), return_numpy=True))
        tensors, theirs = load_tensors(file), paddle.load(str(file))
        for key, value in theirs.items():
            if isinstance(value, paddle.Tensor):
                assert tensors[key].dtype == value.dtype
                assert tensors[key].numpy().tobytes() == value.numpy().tobytes()


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        np.testing.assert_array_equal(ours, theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype


def test_large_parameters_in_slices(tmp_path: Path) -> None:
    """As protocol 2 stores what has more than 1 GB."""
    table = np.arange(12, dtype=np.float32)
    state = {"w@@.0": table[:8], "w@@.1": table[8:], "b": table[:2]}
    state["UnpackBigParamInfor@@"] = {"w": {"OriginShape": (4, 3), "slices": ["w@@.0", "w@@.1"]}}
    (tmp_path / "rec.pdparams").write_bytes(pickle.dumps(state, 2))
    read = read_parameter_file(tmp_path / "rec.pdparams")
    assert sorted(read) == ["b", "w"]
    np.testing.assert_array_equal(read["w"], table.reshape(4, 3))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    folder, *trained = checkpoint(tmp_path / "0", record=True)
    load(folder, *trained)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: is not the file that training saved"):
        load(folder, *trained)


def test_a_state_of_earlier_versions_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder, *trained = checkpoint(tmp_path / "0")
    (folder / "rec.pdstate").write_bytes(pickle.dumps({"epoch": 3}))
    with pytest.raises(CheckpointError, match=r"wrote pickles.* set runner\.model_init_path"):
        load(folder, *trained)


@pytest.mark.parametrize("part", ["python", "numpy", "paddle"])
def test_a_random_state_that_is_none_is_refused(part: str) -> None:
    for nonsense in (None, [], [1], {"state": 1}, [3, [1, 2], None]):
        with pytest.raises(CheckpointError, match="state of the random generators"):
            set_random_state({**random_state(), part: nonsense})
