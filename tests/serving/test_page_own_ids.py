# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page on logs whose ids a browser could spoil: odd strings, and ints above 2^53."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from page_view import chromium, viewing
from playwright.sync_api import expect
from running_service import running, settings_of

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.training.cli import main as train

pytestmark = pytest.mark.slow

ITEMS = 40
KINDS: dict[str, Callable[[int], str | int]] = {
    "strings": lambda item: f"a,%2C <b>'{item}' ü",
    "ints": lambda item: 2**53 + item,
}


@pytest.mark.parametrize("kind", KINDS)
def test_own_ids_come_through_the_page_and_its_address(trained, tmp_path, kind):
    id_of, random = KINDS[kind], np.random.default_rng(5)
    lines = ["user\titem\ttime"]
    for user in range(60):
        items = 1 + (random.permutation(20)[:12] + 20 * (user % 2))
        lines += [f"{user}\t{id_of(item)}\t{time}" for time, item in enumerate(items.tolist())]
    (tmp_path / "log.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data, out = tmp_path / "data", tmp_path / "out"
    assert prepare(["--interactions", str(tmp_path / "log.tsv"), "--out", str(data)]) == 0
    options = [f"runner.model_save_path={out}", "runner.epochs=1", "runner.train_batch_size=128"]
    small = "hyper_parameters.neg_samples=16"
    assert train(["-m", "mind/config.yaml", "--data", str(data), "-o", *options, small]) == 0
    settings = settings_of(type(trained)(data, out), tmp_path, "milvus.collection=own", small)
    with running(settings) as service, chromium() as browser:
        assert service.http.post("/insert").json()["inserted"] == ITEMS
        own = {str(id_of(item)) for item in range(1, ITEMS + 1)}
        shown = "rows => rows.map((row) => row.dataset.id)"
        with viewing(browser, service.url) as view:
            view["#cards > li"].first.click()
            view.settled()
            (picked,) = view["#picked > li"].evaluate_all(shown)
            cards = view["#cards > li:not([hidden])"].evaluate_all(shown)
            address = view.page.url.removeprefix(service.url)
        assert picked in own
        assert set(cards) == own - {picked}
        as_sent = int(picked) if kind == "ints" else picked
        (right,) = service.candidates([as_sent], top_k=50)["candidates"]
        assert cards == list(map(str, right))
        with viewing(browser, service.url, address=address) as view:
            expect(view["#picked > li"]).to_have_count(1)
            assert view["#picked > li"].evaluate_all(shown) == [picked]
            assert view["#cards > li:not([hidden])"].evaluate_all(shown) == cards
