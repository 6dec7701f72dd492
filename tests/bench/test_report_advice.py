# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a report advises and warns of, by numbers worked out by hand."""

from __future__ import annotations

import pytest
from rows_for_report import FLAT, HNSW, IVF, Row, build, floor, latency, point, view

from paddlerec_milvus.bench.load_results import LatencySummary
from paddlerec_milvus.bench.measure_search import warnings_of
from paddlerec_milvus.bench.report.advice import advise, best_by_type
from paddlerec_milvus.bench.report.warnings import by_name, remarks_of, sentences


def advice_of(rows: list[Row]) -> str:
    (advice,) = advise(view(rows))
    return advice.text


# Of 0.1 % lost at most are: ef 96 at 1,000, ef 128 at 980 and ef 256 at 900 users/s. Within 3 % of
# 1,000 are the first two, and of these ef 128 has the lower p99. ef 50 is faster but loses 0.2 %.
def hand_worked() -> list[Row]:
    given = (
        (50, 1400.0, 2.0, 0.002),
        (96, 1000.0, 3.4, 0.001),
        (128, 980.0, 3.2, 0.0009),
        (256, 900.0, 2.0, 0.0),
    )
    points = [
        point(HNSW, {"ef": ef}, rate=rate, p99=p99, lost=lost, width=0.0005)
        for ef, rate, p99, lost in given
    ]
    return [build(FLAT), point(FLAT, {}, found=1.0, rate=200.0), build(HNSW), *points]


def test_advice_is_the_fastest_setting_within_the_target() -> None:
    (advice,) = advise(view(hand_worked()))
    assert advice.text == (
        "HNSW M 16, efConstruction 200, ef 128: 0.09 % of recall@50 lost (95 % interval 0.04 to "
        "0.14 %), 4.90 times FLAT's throughput (980 against 200 users/s), p99 3.20 ms, 210 MiB of "
        "server memory. With these users a loss of up to 0.14 % cannot be ruled out: the target of "
        "0.1 % is met by the mean alone."
    )
    numbers = advice.numbers
    assert (numbers["times_flat"], numbers["clients"]) == (pytest.approx(4.9), 4)
    assert numbers["loss_relative_high"] == pytest.approx(0.0014)


def test_advice_claims_no_ratio_without_flat() -> None:
    text = advice_of(hand_worked()[2:])
    assert "980 users/s (no FLAT beside it)" in text
    assert "times" not in text


def test_advice_says_that_a_loss_is_not_seen() -> None:
    text = advice_of([point(HNSW, {"ef": 96}, lost=0.0002, width=0.0005)])
    assert "no loss of recall@50 seen above noise (95 % interval −0.03 to 0.07 %)" in text
    assert "ruled out" not in text


def test_advice_goes_by_index_recall_without_truths() -> None:
    rows = [
        point(HNSW, {"ef": 50}, found=0.989, rate=2000.0, lost=None),
        point(HNSW, {"ef": 96}, found=0.991, rate=1000.0, lost=None),
        point(HNSW, {"ef": 256}, found=0.999, rate=500.0, lost=None),
    ]
    text = advice_of(rows)
    assert text.startswith("HNSW M 16, efConstruction 200, ef 96: 99.10 % of the exact list found")
    assert "relevance unknown" in text
    assert "No setting finds 99 %" in advice_of(rows[:1])


def test_no_advice_where_no_setting_meets_the_target() -> None:
    rows = [point(HNSW, {"ef": ef}, lost=lost) for ef, lost in ((50, 0.01), (64, 0.004))]
    text = advice_of(rows)
    assert text.startswith("No setting loses at most 0.1 % of recall@50. The nearest is HNSW M 16")
    assert "ef 64: 0.40 % lost" in text


def test_a_setting_with_failed_requests_is_not_advised() -> None:
    failing = point(HNSW, {"ef": 50}, rate=2000.0)
    failing["throughput"][1]["failures"] = 3
    rows = [failing, point(HNSW, {"ef": 96}, rate=1000.0)]
    assert "ef 96" in advice_of(rows)
    assert "Left out for failed requests: 1 setting." in advice_of(rows)
    assert "ef 50: 3 failed requests" in sentences(remarks_of(view(rows)))[0]
    assert "every setting had failed requests" in advice_of(rows[:1])


@pytest.mark.parametrize(
    ("part", "changed", "named"),
    [
        ("server", {"version": "v2.4.0"}, "different versions of Milvus, so"),
        ("machine", {"cores": 64}, "different machines, so"),
        ("measure", {"seconds": 9.0}, "different measure settings, so"),
    ],
)
def test_what_was_not_measured_alike_is_not_ranked(part: str, changed: Row, named: str) -> None:
    rows = hand_worked()
    flat = rows[1]
    flat["provenance"][part] |= changed
    text = advice_of(rows)
    assert text.startswith(f"No advice: the settings were measured with {named}")
    seen = view(rows)
    assert [seen.times_flat(each) for each in seen.points] == [1.0, *[None] * 4]


def test_a_renewed_kernel_and_a_version_that_was_not_recorded_are_no_difference() -> None:
    rows = hand_worked()
    rows[1]["provenance"]["machine"]["platform"] = "Linux-6.19"
    rows[1]["provenance"]["server"]["version"] = ""
    assert advice_of(rows) == advice_of(hand_worked())


def test_a_parameter_without_effect_is_said() -> None:
    same = [point(HNSW, {"ef": ef}, found=0.7) | {"found": "same"} for ef in (50, 64, 96)]
    other = [point(IVF, {"nprobe": nprobe}) for nprobe in (1, 2)]
    assert sentences(remarks_of(view(same + other))) == [
        "HNSW M 16, efConstruction 200: ef 50, 64, 96 without effect: all settings found the very "
        "same items (index_recall 0.7000), so the parameter does nothing here"
    ]
    assert set(by_name(remarks_of(view(same + other))).values()) == {"no effect"}


def test_settings_that_all_find_everything_are_told_apart_from_a_dead_parameter() -> None:
    rows = [point(IVF, {"nprobe": n}, found=1.0) | {"found": "same"} for n in (128, 256)]
    assert "the smallest is enough" in sentences(remarks_of(view(rows)))[0]
    assert not remarks_of(view(rows[:1]))


def test_neighbouring_values_without_effect_are_said() -> None:
    found = {1: "a", 4: "b", 16: "c", 64: "d", 256: "d"}
    rows = [
        point(IVF, {"nprobe": nprobe}, found=1.0 if digest == "d" else 0.5) | {"found": digest}
        for nprobe, digest in found.items()
    ]
    assert sentences(remarks_of(view(rows[::-1]))) == [
        "IVF_FLAT nlist 256: nprobe 64, 256 without effect: they found the very same items, all of "
        "the exact ones: the smallest is enough"
    ]
    assert by_name(remarks_of(view(rows))) == {"IVF_FLAT nlist 256, nprobe 256": "as nprobe 64"}


def test_neighbours_differ_in_one_parameter_alone() -> None:
    index = {"type": "SCANN", "nlist": 64}
    digests = {(4, 64): "a", (4, 128): "a", (16, 64): "b", (16, 128): "c"}
    rows = [
        point(index, {"nprobe": nprobe, "reorder_k": reorder}, found=0.7) | {"found": digest}
        for (nprobe, reorder), digest in digests.items()
    ]
    assert sentences(remarks_of(view(rows))) == [
        "SCANN nlist 64: reorder_k 64, 128 without effect: they found the very same items "
        "(index_recall 0.7000), so the parameter does nothing here"
    ]
    (name,) = by_name(remarks_of(view(rows)))
    assert name == "SCANN nlist 64, nprobe 4, reorder_k 128"


def seen(requests: int, failures: int) -> LatencySummary:
    counts = {"requests": requests, "failures": failures}
    return LatencySummary.model_validate(latency(3.0) | counts)


def test_a_point_of_fewer_requests_says_so() -> None:
    assert warnings_of(seen(998, 2), 1_000) == []
    (said,) = warnings_of(seen(812, 0), 1_000)
    assert said.startswith("latencies are of 812 requests, not of 1,000: its 120 s were over")
    (failed,) = warnings_of(seen(5, 4), 1_000)
    assert "9 requests, not of 1,000, 4 of them without an answer: 3 failures in a row" in failed
    rows = [point(HNSW, {"ef": 96}, warnings=[said]), floor(HNSW, {"ef": 96}) | {"warnings": ["b"]}]
    assert sentences(remarks_of(view(rows))) == [
        f"HNSW M 16, efConstruction 200, ef 96: {said}",
        "faiss: HNSW M 16, efConstruction 200, ef 96: b",
    ]


def test_warnings_of_builds_and_short_lists_are_said() -> None:
    rows = [build(HNSW, warnings=["a segment is bare"]), point(HNSW, {"ef": 96}, short_lists=7)]
    said = sentences(remarks_of(view(rows)))
    assert said == [
        "HNSW M 16, efConstruction 200: a segment is bare",
        "HNSW M 16, efConstruction 200, ef 96: 7 users got less than k items",
    ]


def test_the_best_of_a_type_is_the_nearest_to_the_target_where_none_meets_it() -> None:
    rows = [point(IVF, {"nprobe": n}, lost=0.1 / n) for n in (1, 4, 2)]
    (best,) = best_by_type(view(rows).points)
    assert best.result.search == {"nprobe": 4}
