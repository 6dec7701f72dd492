# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The link is always whole, old exports go, and those that may be needed stay."""

from __future__ import annotations

import pytest
from export_of_a_day import Days

from paddlerec_milvus.errors import DataError
from paddlerec_milvus.update.exports_folder import CURRENT, RUNS, ExportsFolder


def test_the_link_moves_and_goes(days: Days):
    exports = days.exports
    exports.point("two")
    assert (exports.current, (exports.folder / CURRENT).readlink().name) == ("two", "two")
    exports.point("")
    assert exports.current == ""


def test_something_else_in_its_place_is_left_alone(tmp_path):
    (tmp_path / CURRENT).mkdir()
    with pytest.raises(DataError, match="is no link: move it to another name"):
        _ = ExportsFolder(tmp_path).current


def test_two_at_once_are_refused(days: Days):
    other = ExportsFolder(days.exports.folder)
    with days.exports.alone(), pytest.raises(DataError, match="another update is at work"):
        other.alone().__enter__()
    with other.alone():
        pass


def test_only_what_an_update_wrote_goes_and_nothing_that_is_needed(days: Days):
    exports = days.exports
    assert exports.prune(1, set()) == []  # by hand: there are no runs
    for name in ("one", "two"):
        (exports.folder / RUNS / name).mkdir(parents=True)
    assert exports.prune(1, {"one"}) == []
    assert exports.prune(1, set()) == ["one"]
    assert not (exports.folder / RUNS / "one").exists()
