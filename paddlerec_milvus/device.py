# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where paddle computes, for training and evaluation alike."""

from __future__ import annotations

import paddle

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.settings import Settings


def use_device(settings: Settings) -> str:
    """Select the device that the settings ask for; SettingsError when this paddle lacks it."""
    runner = settings.runner
    device = (
        "xpu" if runner.use_xpu else "npu" if runner.use_npu else "gpu" if runner.use_gpu else "cpu"
    )
    try:
        paddle.set_device(device)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(
            f"runner.use_{device}: True, but this paddle has no {device} "
            f"({str(error).strip().splitlines()[-1]}); set it to False, or install "
            "'paddlerec-milvus[gpu]'"
        ) from error
    return device
