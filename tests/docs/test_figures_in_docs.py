# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Figures, links and settings in README and docs are those of results, files and code.

Relevance: tests/benchmarks/test_quality_tables.py; indexes: tests/bench/test_results.py.
"""

from __future__ import annotations

import json
import re
from statistics import median
from typing import Any

import pytest
import yaml
from pages import ENGLISH, blocks_of, chinese, links_of, text_of
from support import ROOT

from paddlerec_milvus.settings import (
    MilvusSettings,
    QuotaSettings,
    RetrievalSettings,
    RunnerSettings,
)

RESULTS = ROOT / "benchmarks" / "results"
TITLES = ("ours", "PaddleRec", "PyTorch, SparseAdam", "ours, best interest and context")
PAGES = [file for page in ENGLISH for file in (page, chinese(page))]


def kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows_between(page: str, mark: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    table = text_of(page).partition(f"<!-- {mark} -->")[2].partition("<!-- end -->")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.strip().splitlines()[2:]
    ]


def test_readme_is_short():
    prose = re.sub(r"```.*?```", "", text_of("README.md"), flags=re.DOTALL)
    assert len(prose.split()) <= 900
    for page in ("README.md", "README_CN.md"):
        tables = re.findall(r"(?:^\|.*\n)+", text_of(page), re.MULTILINE)
        assert tables
        assert max(len(table.splitlines()) - 2 for table in tables) <= 5


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    assert [str(link) for link in links_of(page) if not link.exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_its_counterpart_and_reasons_are_words(page):
    assert (ROOT / page).is_file()
    assert all(len(block.reason) > 8 for block in blocks_of(page) if block.reason is not None)


def training_speeds() -> dict[tuple[int, int, str], float]:
    return {
        (row["batch"], row["negatives"], row["title"]): median(run["rate"] for run in row["runs"])
        for row in kept("training_speed")["measured"]
    }


@pytest.mark.parametrize("page", ["training-speed.md", "training-speed.zh.md"])
def test_training_speeds(page):
    speed = training_speeds()
    for sizes, *cells in rows_between(f"docs/results/{page}", "training_speed"):
        batch, negatives = (int(number.replace(",", "")) for number in sizes.split(", "))
        ours = speed[batch, negatives, "ours"]
        for title, cell in zip(TITLES, cells, strict=True):
            numbers = re.findall(r"\d[\d,.]*", cell)
            if numbers:
                theirs = speed[batch, negatives, title]
                ratios = {f"{ours / theirs:.0f}", f"{ours / theirs:.2f}"}
                assert numbers[0] == f"{theirs:,.0f}"
                assert set(numbers[1:]) <= ratios
    again = {bar["what"]: bar["value"] for bar in kept("training_speed_again")["bars"]}
    shown = [value for what, value in again.items() if what.startswith("samples/s")]
    assert len(shown) == 5
    assert [value for value in shown if value not in text_of(f"docs/results/{page}")] == []
    two = {bar["what"]: bar["value"] for bar in kept("training_speed_processes")["bars"]}
    assert [value for value in two.values() if value not in text_of(f"docs/results/{page}")] == []


@pytest.mark.parametrize("page", ["training-speed.md", "training-speed.zh.md"])
def test_speeds_of_the_zoo(page):
    rates = []
    for pair in kept("zoo_speed")["measured"]:
        own, other = (median(run["rate"] for run in runs) for runs in pair["runs"])
        rates.append((f"{own:,.0f}", f"{other:,.0f}", f"{own / other:.2f}"))
    rows = [
        (ours, *re.findall(r"^[\d,]+|[\d.]+(?=\)$)", theirs))
        for _, ours, theirs in rows_between(f"docs/results/{page}", "zoo_speed")
    ]
    assert sorted(rows) == sorted(rates)


@pytest.mark.parametrize(
    ("page", "tutorial"),
    [("README.md", "first-run.md"), ("README_CN.md", "first-run.zh.md")],
)
def test_the_demos_figures(page, tutorial):
    table = (
        text_of(f"docs/tutorials/{tutorial}").partition("<!-- demo -->")[2].partition("\n```\n")[0]
    )
    (line,) = [line for line in text_of(page).splitlines() if re.search(r"^- .*`make demo`", line)]
    shown = [float(number) for number in re.findall(r"\d+\.\d", line)]
    rows = [re.split(r"\s{2,}", row.strip())[1:3] for row in table.splitlines()[-4:]]
    model, _, knn, transitions = [[round(float(cell), 1) for cell in row] for row in rows]
    others = re.search(r"(\d+\.\d{3}) / (\d+\.\d{3})", text_of(f"docs/tutorials/{tutorial}"))
    other_processor = [round(float(number), 1) for number in others.groups()]
    assert shown == [*model, *other_processor, *transitions, *knn]


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
def test_the_readmes_figures(page):
    text, speed = text_of(page), training_speeds()
    for title in ("ours", "PaddleRec", "PyTorch, SparseAdam"):
        assert f" {speed[128, 128, title]:,.0f}" in text
    table = kept("index_amazon_size/report")["table"]
    row = next(row for row in table if row["setting"] == "HNSW M 16, efConstruction 200, ef 50")
    assert f" {row['times_flat']:.1f} " in text
    assert row["recall_lost_relative_low"] < 0 < row["recall_lost_relative_high"]


@pytest.mark.parametrize("page", ["service.md", "service.zh.md"])
def test_the_services_figures(page):
    text, load, soak = text_of(f"docs/results/{page}"), kept("serving_load"), kept("serving_soak")
    p50, p99, requests, users = load["rows"][:4]
    ratio = "service / raw"
    expected = [
        [f"{p50['service']:.1f}", f"{p50['raw']:.1f}", f"{p50[ratio]:.2f}", f"{p99[ratio]:.2f}"],
        [f"{requests['service']:.0f}", f"{requests['raw']:.0f}", f"{requests[ratio]:.2f}"],
        [f"{users['service']:.0f}", f"{users['raw']:.0f}", f"{users[ratio]:.2f}"],
    ]
    rows = rows_between(f"docs/results/{page}", "serving_load")
    shown = [re.findall(r"(?<![p\d])[\d.]+", " ".join(row[1:])) for row in rows]
    assert shown == expected
    assert [
        f"{value:.1f}" for value in load["mean_ms"].values() if f"{value:.1f}" not in text
    ] == []
    said = soak["verdict"]
    assert said["failures"] == 0
    numbers = [said["p99 of the first minutes, ms"], said["p99 of the last minutes, ms"]]
    for number in (*numbers, int(said["memory of the first minutes, MiB"]), said["requests"]):
        assert f"{number:,.0f}" in text


@pytest.mark.parametrize("page", ["paddlerec.md", "paddlerec.zh.md"])
def test_the_figures_of_evaluation(page):
    text, kept_speed = text_of(f"docs/{page}"), kept("evaluation_speed")
    theirs, ours = list(kept_speed["users_per_second"].values())[:2]
    for number in (f"{ours:.0f}", f"{theirs:.0f}", f"{kept_speed['ratio']:.1f}"):
        assert number in text


@pytest.mark.parametrize("page", ["choosing-an-index.md", "choosing-an-index.zh.md"])
def test_the_index_to_take_is_that_of_the_models_and_was_measured(page):
    text = text_of(f"docs/tutorials/{page}")
    for mark, latin in (("，", ", "), ("、", ", "), (" 和 ", " and ")):
        text = text.replace(mark, latin)
    lines = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])["index"]
    words = "M {M}, efConstruction {efConstruction}, ef {ef}".format(**lines)
    assert words in text
    for file in (ROOT / "models" / "recall").glob("*/config*.yaml"):
        index = yaml.safe_load(file.read_text(encoding="utf-8"))["index"]
        of_model = {key: index[key] for key in lines}
        assert of_model == lines | ({"type": "IVF_FLAT"} if file.parent.name == "gfcf" else {})
    studies = [row.get("measured", {}) for row in kept("index_amazon_size/report")["rows"]]
    recalls = {
        study["params"]["items"]: study["values"]["index_recall"]
        for study in studies
        if study.get("study") == "scale" and "index_recall" in study["values"]
    }
    *first, last = (f"{100 * recalls[items]:.2f}" for items in sorted(recalls))
    *sizes, largest = (f"{items:,}" for items in sorted(recalls))
    assert f"{', '.join(first)} and {last} %" in text
    assert f"{', '.join(sizes)} and {largest}" in text
    evaluated = kept("evaluation_speed")
    assert {key: evaluated["index"][key] for key in lines} == lines
    assert f"{100 * evaluated['index_recall']:.2f} %" in text


@pytest.mark.parametrize("page", ["service.md", "service.zh.md"])
def test_the_figures_of_faults(page):
    verdict = kept("history_faults")["verdict"]
    assert f"{verdict['acknowledged']:,}" in text_of(f"docs/results/{page}")
    assert verdict["lost"] == verdict["added_twice"] == verdict["out_of_order"] == 0


@pytest.mark.parametrize(
    "section", [RunnerSettings, MilvusSettings, RetrievalSettings, QuotaSettings]
)
def test_every_setting_says_what_it_is(section):
    fields = section.model_fields.items()
    assert [name for name, field in fields if not field.description] == []


@pytest.mark.parametrize("page", ["ranking.md", "ranking.zh.md"])
def test_what_ranking_gives(page):
    kept = json.loads((ROOT / "benchmarks" / "results" / "ranking.json").read_text())["data"]
    text = text_of(f"docs/tutorials/{page}")
    for log, result in kept.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {log} |")]
        shown = re.findall(r"[+-]?\d+\.\d+", line)
        names = ("ndcg@10", "recall@10", "ndcg@50", "recall@50", "recall@200")
        expected = [
            f"{100 * value:{sign}.2f}"
            for name in names
            for value, sign in (
                (result["unranked"][name], ""),
                (result["ranked"][name], ""),
                (result["gain"][name]["low"], "+"),
                (result["gain"][name]["high"], "+"),
            )
        ]
        assert shown == expected
        trees = result["trees"]
        for one, name in ((result, "ndcg@10"), (result, "recall@200"), (trees, "ndcg@10")):
            gain = one["gain"][name]["mean"] / one["unranked"][name]
            assert f"{100 * gain:+.1f} %" in text


@pytest.mark.parametrize("page", ["service.md", "service.zh.md"])
def test_the_service_from_an_export(page):
    text = text_of(f"docs/results/{page}")
    p50, _, requests, users = kept("serving_load_export")["rows"][:4]
    expected = [f"{p50['service']:.1f}", f"{p50['raw']:.1f}", f"{requests['service']:.0f}"]
    expected += [f"{row['service / raw']:.2f}" for row in (p50, requests, users)]
    for row in kept("serving_start")["rows"]:
        digits = 1 if row["what"] == "seconds" else 0
        expected += [f"{row[source]:.{digits}f}" for source in ("export", "checkpoint")]
    added, slow, crowded = kept("serving_ranked")["rows"]
    expected += [f"{row[way]:.1f}" for row in (added, slow) for way in ("candidates", "recommend")]
    expected.append(f"{crowded['recommend / candidates']:.2f}")
    assert [number for number in expected if number not in text] == []


@pytest.mark.parametrize("page", ["updating.md", "updating.zh.md"])
def test_a_hundred_replacements(page):
    text, measured = text_of(f"docs/tutorials/{page}"), kept("replacements")
    assert f"{measured['requests']:,}" in text
    for mark in measured["marks"][1:]:
        figures = ("replacements", "service_rss_mib", "milvus_rss_mib", "milvus_disk_mib")
        row = "| " + " | ".join(f"{mark[name]:.0f}" for name in figures) + " |"
        assert row in text


@pytest.mark.parametrize("page", ["README.md", "README_CN.md"])
@pytest.mark.parametrize("name", ["IVF_SQ8", "HNSW"])
def test_the_largest_catalogue_in_readme(page, name):
    (text,) = [line for line in text_of(page).splitlines() if "IVF_SQ8" in line]
    rows = [row for row in kept("scale")["rows"] if row["case"]["index"]["type"] == name]
    row = max(rows, key=lambda one: one["case"]["items"])
    (search,) = row["tuned"]["params"].items()
    figures = [
        f"{row['case']['items']:,}",
        "{} {}".format(*search),
        f"{100 * row['measured']['quality']['index_recall']['list']['mean']:.1f} %",
        f"{row['measured']['latency']['p50']:.1f}",
        f"{row['build']['rss_mib'] / 1024:.1f}",
    ]
    assert [one for one in figures if one not in text] == []


@pytest.mark.parametrize("page", ["batch.md", "batch.zh.md"])
def test_lists_of_a_million_users(page):
    text, measured = text_of(f"docs/tutorials/{page}"), kept("batch_lists")
    rates = measured["users_per_second"]
    figures = [f"{rate:,.0f}" for rate in rates.values()] + [f"{measured['items']:,}"]
    figures += [f"{measured['ratio']:.2f}", f"{measured['seconds']['batch'] / 60:.0f}"]
    assert measured["users"] == 1_000_000
    assert [one for one in figures if one not in text] == []


@pytest.mark.parametrize("page", ["spark.md", "spark.zh.md"])
def test_the_same_folder_by_spark(page):
    text, measured = text_of(f"docs/tutorials/{page}"), kept("spark_prepare")
    assert measured["same_files"]
    assert measured["engines"]["spark"]["killed_executors"] == 1
    figures = [f"`{measured['master']}`", f"{measured['log_mib']} MiB"]
    for engine in measured["engines"].values():
        figures += [f"{engine['seconds']:.0f} ", f"{engine['peak_mib'] / 1024:.1f} GiB"]
    assert [one for one in figures if one not in text] == []
