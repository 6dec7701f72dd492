# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Advice only where the differences are larger than what load and drift may have done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rows_for_report import (
    FLAT,
    HNSW,
    IVF,
    Row,
    clients,
    compared,
    machine_state,
    point,
    results,
    view,
)

from paddlerec_milvus.bench.report.advice import IndexAdvice, advise
from paddlerec_milvus.bench.report.document import as_markdown, report_of
from paddlerec_milvus.bench.report.html import as_html
from paddlerec_milvus.bench.report.steadiness import machine_words
from paddlerec_milvus.bench.report.write import as_json
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.retrieval.indexes import Hnsw, index_of_settings

EF = {"ef": 96}
QUIET = machine_state()
ZOO = "mind/config.yaml"


def sweep(
    state: Row | None, flat: Row | None = None, again: float = 1.0, rival: float = 900.0
) -> list[Row]:
    """HNSW of 1,000 users/s before IVF_FLAT's ``rival`` and FLAT's 400, which ends ``again``."""
    first = point(FLAT, {}, found=1.0, rate=400.0, machine_state=flat or state)
    repeat = point(FLAT, {}, found=1.0, rate=400.0 * again, p99=3.0 / again, machine_state=state)
    return [
        first,
        point(IVF, {"nprobe": 16}, rate=rival, machine_state=state),
        point(HNSW, EF, rate=1000.0, machine_state=state),
        repeat | {"kind": "repeat"},
    ]


def advice_of(rows: list[Row]) -> IndexAdvice:
    (advice,) = advise(view(rows))
    return advice


def test_a_quiet_machine_gives_advice_with_the_line_to_paste() -> None:
    advice = advice_of(sweep(machine_state(0.02, after=2.05), again=0.97))
    assert advice.setting == "HNSW M 16, efConstruction 200, ef 96"
    assert "not those of a quiet machine" not in advice.text
    assert advice.options == "index.type=HNSW index.M=16 index.efConstruction=200 index.ef=96"
    settings = load_settings(ZOO, advice.options.split())
    assert index_of_settings(settings) == Hnsw(M=16, ef_construction=200, ef=96)


def test_the_line_to_paste_ends_the_advice() -> None:
    text = as_markdown(report_of(view(sweep(QUIET))))
    paragraphs = text.split("\n\n")
    place = next(n for n, part in enumerate(paragraphs) if part.startswith("**Advice.**"))
    line = "`-o index.type=HNSW index.M=16 index.efConstruction=200 index.ef=96`"
    assert paragraphs[place + 1].endswith(line)


# the rivals: IVF_FLAT, 10 % behind HNSW, and FLAT, 60 % behind
def test_load_that_is_larger_than_a_difference_withholds_the_advice() -> None:
    advice = advice_of(sweep(machine_state(0.5)))
    assert advice.setting is None
    assert advice.options == ""
    assert advice.text == (
        "No advice: this run cannot tell which setting is the fastest. Other programs used 1.00 of "
        "2 cores (most of it: cc1) while HNSW M 16, efConstruction 200, ef 96 was measured, which "
        "may change a speed by 50.0 %; HNSW M 16, efConstruction 200, ef 96 (1,000 users/s) "
        "differs by less from IVF_FLAT nlist 256, nprobe 16 (900, by 10.0 %). To get an advice: "
        "end the other programs, or wait until they are done, and measure into another --out, as "
        "what a folder holds is not measured again."
    )
    assert advice.numbers == {
        "withheld": "load",
        "disturbance": 0.5,
        "users_per_second": {
            "HNSW M 16, efConstruction 200, ef 96": 1000.0,
            "IVF_FLAT nlist 256, nprobe 16": 900.0,
        },
    }


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"state": machine_state(0.08)}, None),  # less than the 10 % that IVF_FLAT is behind
        ({"state": machine_state(0.08), "rival": 930.0}, "load"),
        ({"state": machine_state(0.0, steal=0.12)}, "load"),
        ({"state": machine_state(None, steal=0.0)}, None),  # load that cannot be seen
        ({"state": machine_state(0.04), "rival": 990.0}, None),  # noise of any run
        ({"state": QUIET, "again": 0.85}, "drift"),
        ({"state": QUIET, "again": 1.2}, "drift"),
        ({"state": QUIET, "again": 0.93}, None),
        ({"state": machine_state(0.0, after=2.5)}, "drift"),  # 2.0 to 2.5 ms: 20 %
        ({"state": QUIET, "flat": machine_state(0.0, pace=1.6)}, "drift"),  # 1.6 to 2.0
        ({"state": QUIET, "flat": machine_state(0.5)}, None),  # FLAT alone, 60 % behind
        ({"state": QUIET, "flat": machine_state(0.7)}, "load"),
        ({"state": None, "again": 1.0, "rival": 990.0}, None),
    ],
)
def test_advice_is_given_where_the_differences_are_larger(
    changed: dict[str, Any], cause: str | None
) -> None:
    advice = advice_of(sweep(**changed))
    assert advice.numbers.get("withheld") == cause
    assert (advice.setting is None) == (cause is not None)


def test_advice_of_a_busy_machine_says_so() -> None:
    text = advice_of(sweep(machine_state(0.08))).text
    assert "not those of a quiet machine: other programs used 0.160 of 2 cores (most of it" in text
    assert "which may change them by 8.0 %. All other settings that meet the target are" in text
    beside = advice_of(sweep(QUIET, flat=machine_state(0.5))).text  # FLAT's figures are in it
    assert "other programs used 1.00 of 2 cores (most of it: cc1) while FLAT was" in beside
    slow = point(IVF, {"nprobe": 1}, lost=0.1, rate=990.0, machine_state=machine_state(0.5))
    only = advice_of([slow, point(HNSW, EF, machine_state=machine_state(0.5))])
    assert only.setting is not None  # the only one that meets the target
    assert "All other" not in only.text


def test_a_withheld_advice_is_in_every_file() -> None:
    pytest.importorskip("jinja2")
    rows = sweep(machine_state(0.5))
    shown, report = view(rows), report_of(view(rows))
    saved = json.loads(as_json(results(rows), [], report))
    (advice,) = saved["advice"]
    assert (advice["setting"], advice["numbers"]["withheld"]) == (None, "load")
    for text in (as_markdown(report).replace("\\", ""), as_html(shown, report)):
        assert advice["text"] in text
        assert saved["machine"] in text
        assert "-o index." not in text


def test_the_machine_is_said_in_a_sentence() -> None:
    assert machine_words(view(sweep(None))) == (
        "Load, steal and clock drift of the machine: not recorded."
    )
    rows = sweep(machine_state(0.1, steal=0.01), flat=machine_state(0.2, after=2.1), again=0.9)
    assert machine_words(view(rows)) == (
        "While the settings were measured: other programs 10.0 to 20.0 %, steal 0.0 to 1.0 % of "
        "the machine; one and the same small piece of work took 2.00 to 2.10 ms; FLAT, timed first "
        "and again at the end, was 10.0 % slower then."
    )
    words = machine_words(view([*rows[:3], point(HNSW, {"ef": 50})]))
    assert words.endswith(
        "; the first setting was not timed again; not recorded for 1 of 4 settings."
    )


def verdict_of(first: list[Row], second: list[Row], title: str) -> list[str]:
    """What ``--compare`` says beside a number of the only setting: load and drift, verdict."""
    part = compared(first, second).split(f"\n## {title}\n")[1]
    line = next(line for line in part.splitlines() if line.startswith("| HNSW"))
    return [cell.strip() for cell in line.split("|")[-3:-1]]


@pytest.mark.parametrize(
    ("state", "again", "expected"),
    [
        (QUIET, 1.0, ["quiet", "beyond noise"]),
        (None, 1.0, ["not recorded", "beyond noise"]),
        (machine_state(0.5), 1.0, ["50.0 % load", "the machine was busy"]),
        (machine_state(0.1), 1.0, ["10.0 % load", "beyond noise"]),  # 20 % slower
        (QUIET, 0.7, ["30.0 % drift", "within drift"]),
        (machine_state(pace=3.0), 1.0, ["33.3 % drift", "within drift"]),  # from 2 ms
    ],
)
def test_a_comparison_says_what_load_and_drift_may_have_done(
    state: Row | None, again: float, expected: list[str]
) -> None:
    def run(rate: float, state: Row | None, again: float = 1.0) -> list[Row]:
        loads = [clients(number, rate) for number in (1, 2)]
        ours = point(HNSW, EF, throughput=loads, machine_state=state)
        repeat = ours | {"kind": "repeat"}
        repeat["throughput"] = [clients(number, rate * again) for number in (1, 2)]
        repeat["latency"] = ours["latency"] | {"p50": ours["latency"]["p50"] / again}
        return [ours, repeat]

    first, second = run(1000.0, QUIET), run(800.0, state, again)
    assert verdict_of(first, second, "users/s") == expected
    text = compared(first, second)
    hidden = expected[1] not in ("noise", "beyond noise")
    assert ("1 by no more than load or drift may have done" in text) == hidden
    assert ("\n## Beyond noise\n" in text) == (not hidden)
    assert "Only in" not in text


def test_a_latency_on_a_busy_machine_is_never_beyond_noise() -> None:
    first = [point(HNSW, EF, p99=3.0, machine_state=QUIET)]
    second = [point(HNSW, EF, p99=30.0, machine_state=machine_state(0.1))]
    assert verdict_of(first, second, "p99, ms") == ["load", "the machine was busy"]
    assert verdict_of(first, [point(HNSW, EF, p99=30.0, machine_state=QUIET)], "p99, ms") == [
        "quiet",
        "beyond noise",
    ]


def test_load_hides_no_difference_of_what_is_found() -> None:
    busy = machine_state(1.0)
    one = [point(HNSW, EF, found=0.9, machine_state=busy)]
    other = [point(HNSW, EF, found=0.99, machine_state=busy)]
    assert verdict_of(one, other, "index_recall")[1] == "beyond noise"
