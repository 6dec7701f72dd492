# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The ids of the log in every call: strings, or ints that are no numbers of ours, never both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from in_process import ITEMS, SmallIndex, TinyEncoder, in_process_app
from running_service import Running

from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.serving.async_user_store import InMemoryUserStore
from paddlerec_milvus.serving.client import Client
from paddlerec_milvus.serving.item_ids import FIRST_NEW, ItemIds, new_number

NAMES = [f"B{number:05}" for number in range(1, ITEMS + 1)]
HUGE = 2**53 + 1  # the first integer that JavaScript does not have
INTS = [HUGE + 1_000 * number for number in range(1, ITEMS + 1)]


@pytest.fixture
def strings() -> Iterator[Running]:
    ids = IdMap("string", NAMES)
    with in_process_app(SmallIndex(TinyEncoder().item_vectors()), item_ids=ids) as started:
        yield started


@pytest.fixture
def named() -> Iterator[Running]:
    """Users and items have strings for ids."""
    with in_process_app(item_ids=IdMap("string", NAMES), user_kind="string") as started:
        yield started


@pytest.fixture
def ints() -> Iterator[Running]:
    with in_process_app(item_ids=IdMap("int", INTS)) as started:
        yield started


@pytest.fixture(scope="module")
def plain() -> Iterator[Running]:
    """The same service, spoken to in numbers."""
    with in_process_app() as started:
        yield started


def number_lists(answer, names) -> list[list[int]]:
    return [[1 + names.index(item) for item in row] for row in answer["candidates"]]


@pytest.mark.parametrize(("kind", "names"), [("strings", NAMES), ("ints", INTS)])
def test_lists_are_those_of_the_numbers(request, plain, kind, names):
    service: Running = request.getfixturevalue(kind)
    histories = [[3, 7], [], [12, 12, 40]]
    options = {"top_k": 9, "titles": True, "nearest": True}
    expected = plain.candidates(*histories, exclude=[1, 2], **options)
    own = [[names[item - 1] for item in row] for row in histories]
    answer = service.candidates(*own, exclude=[names[0], names[1]], **options)
    assert number_lists(answer, names) == expected["candidates"]
    assert {k: v for k, v in answer.items() if k not in ("candidates", "nearest")} == {
        k: v for k, v in expected.items() if k not in ("candidates", "nearest")
    }
    for row, numbers in zip(answer["nearest"], expected["nearest"], strict=True):
        for near, right in zip(row, numbers, strict=True):
            assert [one["id"] for one in near] == [names[one["id"] - 1] for one in right]


def test_unknown_ids_come_back_as_they_were_sent(strings, ints):
    answer = strings.candidates(["B00003", "b00003", "", "3", "B 3\n"], ["B00001"])
    assert answer["unknown"] == [["b00003", "", "3", "B 3\n"], []]
    assert ints.candidates([INTS[2], 3, -7, HUGE])["unknown"] == [[3, -7, HUGE]]


@pytest.mark.parametrize(
    ("kind", "body", "place", "text"),
    [
        ("strings", {"hist_item": [["B00001", 43]]}, ["hist_item", 0, 1], 'send "43", not 43'),
        ("strings", {"hist_item": [[]], "exclude": [4]}, ["exclude", 0], 'send "4", not 4'),
        ("ints", {"hist_item": [["43"]]}, ["hist_item", 0, 0], 'send 43, not "43"'),
        ("ints", {"hist_item": [["B1"]]}, ["hist_item", 0, 0], "integers here: this is a string"),
    ],
)
def test_the_other_kind_is_refused_in_words(request, kind, body, place, text):
    service: Running = request.getfixturevalue(kind)
    answer = service.http.post("/candidates", json=body)
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert problem["loc"] == ["body", *place]
    assert text in problem["msg"]


def test_ids_go_to_a_browser_as_text(ints, strings):
    as_text = {"X-Ids-As-Text": "1"}
    body = {"hist_item": [[str(INTS[2]), "007", "x", str(INTS[6])]], "top_k": 5, "nearest": True}
    answer = ints.http.post("/candidates", json=body, headers=as_text).json()
    right = ints.candidates([INTS[2], INTS[6]], top_k=5)
    assert answer["candidates"] == [list(map(str, right["candidates"][0]))]
    assert answer["unknown"] == [["007", "x"]]
    assert {type(one["id"]) for near in answer["nearest"][0] for one in near} == {str}
    titles = ints.http.get("/titles", params={"limit": 2}, headers=as_text).json()["items"]
    assert [item["id"] for item in titles] == [str(INTS[0]), str(INTS[1])]
    picked = {"id": [str(INTS[4]), "x"]}  # of an address that somebody changed
    titles = ints.http.get("/titles", params=picked, headers=as_text).json()["items"]
    assert [item["id"] for item in titles] == [str(INTS[4])]
    titles = ints.http.get("/titles", params={"id": [INTS[4], 5]}).json()["items"]
    assert [item["id"] for item in titles] == [INTS[4]]
    assert ints.http.get("/titles", params={"id": "x"}).status_code == 422
    titles = strings.http.get("/titles", params={"id": ["B00009", "no"]}).json()["items"]
    assert [item["id"] for item in titles] == ["B00009"]


@pytest.mark.parametrize("user", ["u-77", "7", "a/b c", "é\"'%2F", "u" * 512])
def test_users_have_their_own_ids(named, plain, user):
    client = Client(transport=named.http._transport)
    assert client.user_candidates(user).source == ["popular"]
    added = client.add_events(user, ["B00003", "nosuch", "B00007"])
    assert (added.user, added.history, added.unknown) == (user, 2, ["nosuch"])
    answer = client.user_candidates(user, 9)
    assert answer.source == ["model"]
    expected = plain.candidates([3, 7], top_k=9)["candidates"]
    assert number_lists(answer.model_dump(), NAMES) == expected
    assert client.delete_user(user) == user
    assert client.user_candidates(user).source == ["popular"]


def test_users_of_the_other_kind_are_refused(named, strings):
    for user in ("u-7", "07", "+7", str(2**63), "7.0"):
        answer = strings.http.get(f"/users/{user}/candidates")
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["path", "user"]
    for user in ("u" * 513, "x" * 10_000):
        assert named.http.get(f"/users/{user}/candidates").status_code == 422
    assert named.http.get("/users//candidates").status_code == 422


def test_seven_is_not_the_user_who_is_called_7():
    store, states = InMemoryUserStore(), []
    for kind in ("int", "string"):
        with in_process_app(user_store=store, user_kind=kind) as service:
            answer = service.http.post("/users/7/events", json={"items": [3]}).json()
            states.append((answer["user"], answer["history"]))
    assert states == [(7, 1), ("7", 1)]


def test_new_items_have_own_ids_and_count_in_histories(strings, plain):
    vector = TinyEncoder().item_vectors()[9].tolist()
    assert strings.candidates(["new/1"])["unknown"] == [["new/1"]]
    body = {"items": [{"id": "new/1", "vector": vector}]}
    assert strings.http.post("/items", json=body).status_code == 200
    answer = strings.candidates(["B00009"], top_k=3)
    assert answer["candidates"][0][0] == "new/1"
    # in a history it stands for the item with its vector, and it is excluded itself
    answer = strings.candidates(["new/1"], top_k=ITEMS)
    assert answer["unknown"] == [[]]
    assert "new/1" not in answer["candidates"][0]
    assert answer["source"] == ["model"]
    same = strings.candidates(["B00009"], exclude=["new/1"], exclude_history=False, top_k=5)
    assert answer["candidates"][0][:5] == same["candidates"][0]
    added = strings.http.post("/users/7/events", json={"items": ["new/1", "new/2"]}).json()
    assert (added["history"], added["unknown"]) == (1, ["new/2"])
    assert strings.http.delete("/items/new/1").json() == {"deleted": "new/1"}
    assert strings.candidates(["new/1"])["unknown"] == [["new/1"]]


def test_a_new_item_of_another_process_is_named(strings):
    """Its id lies beside its vector."""
    index = strings.service.deployment._retriever
    vector = TinyEncoder().item_vectors()[9:10]
    index.upsert(vector, [new_number("other")], None, ["other"])
    index.upsert(vector, [FIRST_NEW + 5])  # by nobody who knows of ids
    answer = strings.candidates(["B00009"], top_k=ITEMS + 2, exclude_history=False)
    assert "other" in answer["candidates"][0]
    assert len(answer["candidates"][0]) == len(answer["scores"][0]) == ITEMS + 1
    assert strings.candidates(["other"])["unknown"] == [[]]


def test_new_items_of_an_int_log(ints):
    vector = TinyEncoder().item_vectors()[9].tolist()
    for item, status in ((5, 200), (INTS[3], 200), (-1, 422), (2**62, 422), ("5", 422)):
        body = {"items": [{"id": item, "vector": vector}]}
        assert ints.http.post("/items", json=body).status_code == status, item
    assert ints.candidates([INTS[8]], top_k=2)["candidates"][0][0] in (5, INTS[3])
    assert ints.candidates([5], top_k=ITEMS + 1)["unknown"] == [[]]
    assert ints.http.get("/count").json()["count"] == ITEMS + 1


@pytest.mark.parametrize(("kind", "expected"), [("named", "string"), ("ints", "integer")])
def test_the_description_says_which_kind(request, kind, expected):
    schema = request.getfixturevalue(kind).http.get("/openapi.json").json()
    body = schema["paths"]["/candidates"]["post"]["requestBody"]["content"]["application/json"]
    row = body["schema"]["properties"]["hist_item"]["items"]
    assert row["items"]["type"] == expected
    answers = schema["components"]["schemas"]
    assert (
        answers["CandidatesAnswer"]["properties"]["candidates"]["items"]["items"]["type"]
        == expected
    )
    (user,) = schema["paths"]["/users/{user}"]["delete"]["parameters"]
    assert user["schema"]["type"] == expected
    assert answers["UserDeleteAnswer"]["properties"]["deleted"]["type"] == expected
    assert "x-id" not in str(schema)


def test_a_number_stays_what_it_is():
    ids = ItemIds(IdMap("string", NAMES), ITEMS)
    numbers = ids.numbers(["B00002", "zzz", "B00001"])
    assert (numbers[0], numbers[2], numbers[1] >= FIRST_NEW) == (2, 1, True)
    # BLAKE2b of 8 bytes, shifted by two: another process must come to the same number
    digest = hashlib.blake2b(b"zzz", digest_size=8).hexdigest()
    assert numbers[1] == new_number("zzz") == FIRST_NEW + (int(digest, 16) >> 2)
    assert ItemIds(IdMap("int", INTS), ITEMS).own_ids([1, FIRST_NEW + 9]) == [INTS[0], 9]
