# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""MKL's kernels are chosen on AMD with AVX2 alone, and what a user chose stays."""

from __future__ import annotations

import pytest

from paddlerec_milvus.processor import KERNELS, use_fast_kernels

ZEN = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse4_2 fma avx avx2\n"


@pytest.mark.parametrize(
    ("cpu", "chosen"),
    [
        (ZEN, "5"),
        (ZEN.replace("AuthenticAMD", "GenuineIntel"), None),
        (ZEN.replace(" avx2", ""), None),
        ("", None),
    ],
)
def test_kernels_of_a_processor(cpu, chosen):
    environment: dict[str, str] = {}
    use_fast_kernels(environment, cpu)
    assert environment.get(KERNELS) == chosen


def test_a_choice_of_the_user_stays():
    environment = {KERNELS: "4"}
    use_fast_kernels(environment, ZEN)
    assert environment == {KERNELS: "4"}
