# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``POST /insert`` runs no code of a checkpoint, takes no changed one, and serves what served."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
from running_service import running

from paddlerec_milvus.checkpoint_record import RECORD
from paddlerec_milvus.trained_model import PARAMETERS


class Touch:
    """Pickled as a call that makes the file ``mark``."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("record", [True, False])
def test_code_in_a_checkpoint_and_flipped_bits(trained, tmp_path, make_settings, record):
    folder, mark = tmp_path / "out" / "0", tmp_path / "mark"
    shutil.copytree(trained.checkpoints / "0", folder)
    file = folder / PARAMETERS
    genuine = file.read_bytes()
    if not record:  # as PaddleRec leaves it
        (folder / RECORD).unlink()
    with running(make_settings(f"runner.infer_load_path={folder.parent}")) as service:
        assert service.http.post("/insert").status_code == 200
        before = service.candidates([3], [7, 9])
        attacks = [{"item_emb.weight": Touch(mark)}, Touch(mark), [Touch(mark)]]
        for attack in attacks:
            file.write_bytes(pickle.dumps(attack, 2))
            refused = service.http.post("/insert")
            assert refused.status_code == 409
            why = "is not the file that training saved" if record else "it names posix.system"
            assert why in refused.json()["detail"]
            assert not mark.exists()
        if record:
            for place in (10, len(genuine) // 2, len(genuine) - 10):
                file.write_bytes(
                    genuine[:place] + bytes([genuine[place] ^ 1]) + genuine[place + 1 :]
                )
                refused = service.http.post("/insert")
                assert refused.status_code == 409
                assert "is not the file that training saved" in refused.json()["detail"]
        assert service.candidates([3], [7, 9]) == before
        file.write_bytes(genuine)
        assert service.http.post("/insert").status_code == 200
        if record:  # the model is in memory, and what the disk says of it is changed
            text = (folder / RECORD).read_text()
            (folder / RECORD).write_text(text.replace(f'"{PARAMETERS}": "', f'"{PARAMETERS}": "0'))
            assert service.http.post("/insert").status_code == 409
    pickle.loads(pickle.dumps(Touch(mark)))
    assert mark.exists()  # so the attacks do work where a pickle is trusted
