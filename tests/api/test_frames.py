# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Data frames of pandas and polars as logs, and the words that callers from Python see."""

from __future__ import annotations

from datetime import datetime, time, timedelta, timezone
from uuid import UUID

import polars as pl
import pytest

from paddlerec_milvus.api.frames import clicks_frame, in_library, log_frame, titles_frame
from paddlerec_milvus.api.histories import histories_of
from paddlerec_milvus.api.python_words import option_texts, python_words
from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.data.item_titles import titles_of
from paddlerec_milvus.errors import DataError, SettingsError

pandas = pytest.importorskip("pandas")


def test_columns_of_pandas_become_those_of_polars():
    moment = datetime(2024, 7, 1, tzinfo=timezone.utc)
    frame = pandas.DataFrame(
        {
            "extra": [[1], [2]],  # is not looked at
            "user_id": pandas.array([7, 8], dtype="Int64"),
            "item": pandas.Categorical(["a", "b"]),
            "timestamp": pandas.to_datetime([moment, moment]),
        }
    )
    part = log_frame(frame, "clicks")
    assert part.columns == ["user_id", "item", "timestamp"]
    assert part["user_id"].to_list() == [7, 8]
    assert part["item"].to_list() == ["a", "b"]
    assert part["timestamp"][0].timestamp() == moment.timestamp()


def test_missing_ids_stay_missing_and_are_said():
    frame = pandas.DataFrame({"user": ["a", None], "item": [1, 2]})
    assert log_frame(frame, "clicks")["user"].to_list() == ["a", None]
    with pytest.raises(DataError, match="test: an empty user id in row 1"):
        clicks_frame(frame, "test")
    twice = pandas.DataFrame([[1, 2, 3]], columns=["user", "item", "item"])
    with pytest.raises(DataError, match="the column 'item' is there twice"):
        log_frame(twice, "clicks")


@pytest.mark.parametrize(
    "frame",
    [
        pandas.DataFrame({"user": [], "item": []}),
        pandas.DataFrame({"user": ["a"], "item": ["b"], "time": [1]}).head(0),
        pl.DataFrame(schema={"user": pl.Int64, "item": pl.Int64, "time": pl.String}),
        pl.LazyFrame(schema={"user": pl.String, "item": pl.String}),
    ],
)
def test_a_frame_without_rows_has_no_clicks(frame):
    with pytest.raises(DataError, match="test: no clicks, the data frame has no rows; give one"):
        histories_of(frame, IdMap("int"), what="test")


@pytest.mark.parametrize("library", [pandas.DataFrame, pl.DataFrame])
def test_uuids_are_taken_as_their_texts(library):
    ids = [UUID(int=number) for number in (5, 6)]
    texts = [str(one) for one in ids]
    part = log_frame(library({"user": ids, "item": ids}), "clicks")
    assert part.to_dict(as_series=False) == {"user": texts, "item": texts}
    histories = histories_of({ids[0]: ids}, IdMap("string", texts))
    assert (histories.users, histories.items) == (texts[:1], [texts])


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([["a"], ["b"]], r"holds values of type List\(String\); .*clicks.explode\('item'\) makes"),
        ([[1], ["b"]], r"holds values of type list \(\[1\]\); expected numbers, texts or times"),
        ([("a", 1), ("b", 2)], r"holds values of type tuple \(\('a', 1\)\)"),
        ([{"a"}, {"b"}], r"holds values of type set \(\{'a'\}\)"),
        ([{"a": 1}, {"a": 2}], r"holds values of type Struct"),
    ],
)
def test_columns_of_lists_and_the_like_are_refused(cells, text):
    frame = pandas.DataFrame({"user": [1, 2], "item": cells})
    with pytest.raises(DataError, match=f"clicks: the column 'item' {text}"):
        log_frame(frame, "clicks")


def test_lists_of_polars_are_refused_in_any_column_of_a_log():
    for role in ("user", "item", "time"):
        frame = pl.DataFrame({"user": [1], "item": [2], "time": [3]}).with_columns(
            pl.concat_list(role).alias(role)
        )
        with pytest.raises(DataError, match=f"the column '{role}' holds values of type List"):
            clicks_frame(frame, "test")


def test_lists_in_a_table_of_items_are_refused_where_they_would_be_shown():
    items = pl.DataFrame({"item": ["a"], "title": ["A"], "authors": [["X", "Y"]], "tags": [[1]]})
    with pytest.raises(DataError, match=r"items: the column 'authors' holds values of type List"):
        titles_of(titles_frame(items), "items")
    assert titles_of(titles_frame(items.drop("authors")), "items").rows() == [("a", "A", "")]


def test_clicks_are_in_the_order_of_their_times():
    frame = pl.LazyFrame({"user": [1, 1, 1], "item": ["c", "a", "b"], "time": ["10", "9", "9"]})
    assert clicks_frame(frame, "clicks")["item"].to_list() == ["a", "b", "c"]


def test_missing_numbers_stay_missing_in_pandas():
    frame = pl.DataFrame({"interest": [1, None], "score": [0.5, None], "title": ["T", None]})
    assert in_library(frame, "polars") is frame
    back = in_library(frame, "pandas")
    assert str(back["interest"].dtype) == "Int64"
    assert back.isna().to_numpy().tolist() == [[False] * 3, [True] * 3]


def test_options_are_texts_as_the_commands_take_them():
    options = {"a.b": 3, "c.d": True, "e.f": "uniform", "g.h": None, "i.j": 1e-5}
    assert option_texts(options) == ["a.b=3", "c.d=true", "e.f=uniform", "g.h=null", "i.j=1e-05"]
    assert option_texts(["runner.epochs=3"]) == ["runner.epochs=3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (3, "the int 3"),
        (None, "the NoneType None"),
        (b"runner.epochs=3", "the bytes b'runner.epochs=3'"),
        ("runner.epochs=3", "the text 'runner.epochs=3'"),
    ],
)
def test_options_that_are_neither_a_dict_nor_texts_are_refused(options, words):
    with pytest.raises(SettingsError) as caught:
        option_texts(options)
    expected = '{"runner.epochs": 3} or ["runner.epochs=3"]'
    assert str(caught.value) == f"options is {words}; expected {expected}"


@pytest.mark.parametrize(
    ("value", "kind"),
    [({1}, "set"), ([{1}], "list"), (datetime(2024, 7, 1), "datetime"), ({(1, 2): 3}, "dict")],
)
def test_an_option_that_is_no_value_of_yaml_is_refused(value, kind):
    with pytest.raises(
        SettingsError, match=f"options: x.y is of type {kind} and .*; expected a num"
    ):
        option_texts({"x.y": value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("give a smaller --min-count", "give a smaller min_count"),
        (
            "name them: --columns user=1,item=2,time=3 (numbers from 1, or names of the header)",
            'name them: columns={"user": "…", "item": "…", "time": "…"}',
        ),
        ("-o: unknown key 'x'", "options: unknown key 'x'"),
        ("-o a.b=1: expected int", "options a.b=1: expected int"),
        ("replace it with --overwrite, or name another folder with --out", "name another folder"),
        ("a -- b--c", "a -- b--c"),
    ],
)
def test_options_of_commands_are_arguments_of_calls(text, words):
    assert python_words(text) == words


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"timestamp": "when"}, r"columns: 'timestamp' is none of user, item, time, kind"),
        ({"user": "3", "item": "sku"}, r"no column '3' for user; it has visitor, sku"),
        ({"user": 0, "item": "sku"}, r"no column '0' for user"),
        ({"user": "sku", "item": "sku"}, r"columns: 'sku' is both user and item"),
        ({"user": "visiter", "item": "sku"}, r"did you mean 'visitor'"),
    ],
)
def test_columns_that_cannot_be_are_said(columns, text):
    frame = pl.DataFrame({"visitor": [1], "sku": [2], "when": [3]})
    with pytest.raises(SettingsError, match=text):
        log_frame(frame, "clicks", columns)


def test_missing_numbers_of_pandas_are_no_ids_and_no_words():
    users = pandas.DataFrame({"user": [1, None, 2], "item": [3, 4, 5]})
    with pytest.raises(DataError, match="an empty user id in row 1"):
        clicks_frame(users, "clicks")
    items = pandas.DataFrame({"item": [1, 2], "title": ["A", "B"], "year": [1994, None]})
    assert titles_of(titles_frame(items), "items").rows() == [
        ("1", "A", "", "1994"),
        ("2", "B", "", ""),
    ]


def test_seconds_of_pandas_are_times():
    times = pandas.to_datetime(["2020-01-02", "2020-01-01"]).astype("datetime64[s]")
    frame = pandas.DataFrame({"user": [1, 1], "item": [3, 4], "time": times})
    assert clicks_frame(frame, "clicks")["item"].to_list() == [4, 3]


@pytest.mark.parametrize(
    "command",
    [
        "python -m paddlerec_milvus.data.migrate datasets/mine --out DIR",
        "`python -m paddlerec_milvus.retrieval.server`",
        "tools/trainer.py -m mind/config.yaml --data DIR",
    ],
)
def test_commands_in_a_message_stay_as_they_are_typed(command):
    text = f"run {command}; or give a smaller --min-count"
    assert python_words(text) == f"run {command}; or give a smaller min_count"


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (time(8, 30), "clicks, row 1: times of type Time; expected numbers, or dates with or"),
        (timedelta(hours=8), "clicks, row 1: times of type Duration"),
        (b"8", "clicks, row 1: times of type Binary"),
    ],
)
def test_times_that_are_no_moments_are_refused(when, text):
    frame = pl.DataFrame({"user": [1], "item": [2], "time": [when]})
    with pytest.raises(DataError, match=text):
        clicks_frame(frame, "clicks")


def test_times_may_be_categories():
    frame = pl.DataFrame({"user": [1, 1], "item": [3, 4], "time": ["2024-05-17", "2024-05-16"]})
    frame = frame.with_columns(pl.col("time").cast(pl.Categorical))
    assert clicks_frame(frame, "clicks")["item"].to_list() == [4, 3]
