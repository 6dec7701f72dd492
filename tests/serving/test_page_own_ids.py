# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The page on logs whose ids a browser could spoil: odd strings, and ints above 2^53."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from own_id_log import ITEMS, OPTIONS, train_on_own_ids
from page_view import chromium, viewing
from playwright.sync_api import expect
from running_service import running, settings_of

pytestmark = pytest.mark.slow

KINDS: dict[str, Callable[[int], str | int]] = {
    "strings": lambda item: f"a,%2C <b>'{item}' ü",
    "ints": lambda item: 2**53 + item,
}


@pytest.mark.parametrize("kind", KINDS)
def test_own_ids_come_through_the_page_and_its_address(trained, tmp_path, kind):
    id_of = KINDS[kind]
    train_on_own_ids(tmp_path, int, id_of)
    trained_on_it = type(trained)(tmp_path / "data", tmp_path / "out")
    settings = settings_of(trained_on_it, tmp_path, "milvus.collection=own", *OPTIONS)
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
