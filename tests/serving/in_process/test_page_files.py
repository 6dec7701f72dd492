# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the page is made of, as HTTP sees it, and the titles that it searches in."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from in_process import ITEMS, in_process_app
from running_service import Running

import paddlerec_milvus.serving
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.routers.page import FILES

FOLDER = Path(paddlerec_milvus.serving.__file__).parent / "page"


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ],
)
def test_a_file_is_sent_once_and_then_known_by_its_tag(
    service: Running, path: str, media_type: str
):
    first = service.http.get(path)
    assert first.status_code == 200
    assert first.headers["content-type"] == media_type
    assert first.headers["x-content-type-options"] == "nosniff"
    assert first.headers["referrer-policy"] == "no-referrer"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = service.http.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    assert service.http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_scripts_and_styles_come_from_the_service_alone(service: Running):
    for path in ("/", "/docs", *(f"/page/{name}" for name in FILES)):
        policy = service.http.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert "http" not in policy


def test_every_file_of_the_folder_is_served_and_no_other(service: Running):
    pages = {"index.html", "docs.html"}
    assert {file.name for file in FOLDER.iterdir()} - pages <= set(FILES)
    for name in (*pages, "page.py", "..%2Fpage.py", "%00", "x" * 5000):
        assert service.http.get(f"/page/{name}").status_code == 404


def test_the_page_is_open_to_all_and_its_calls_are_not():
    with in_process_app(keys=Keys.parse("read:a-key-to-read-with")) as closed:
        assert closed.http.get("/").status_code == 200
        assert closed.http.get("/docs").status_code == 200
        assert closed.http.get("/titles").status_code == 401
        answer = closed.http.get("/titles", headers={"X-API-Key": "a-key-to-read-with"})
        assert answer.status_code == 200


def titles(service: Running, **query: object) -> list[dict[str, object]]:
    answer = service.http.get("/titles", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["items"]
    return items


def test_titles_by_words_popular_ones_first(service: Running):
    games = [item for item in range(1, ITEMS + 1) if item % 3 == 1]
    for limit in (5, 100):
        found = titles(service, q="GAM titl", limit=limit)
        assert [item["id"] for item in found] == games[:limit]
        assert {(item["title"], item["category"]) for item in found} == {
            (f"Title {item} of games", "games") for item in games[:limit]
        }
    assert titles(service, q="no such title") == []


def test_titles_without_words_are_the_most_popular(service: Running):
    assert [item["id"] for item in titles(service)] == list(range(1, 21))
    assert [item["id"] for item in titles(service, limit=3)] == [1, 2, 3]


def test_titles_of_given_items_in_their_order(service: Running):
    found = titles(service, id=[7, 2, 10**12, -1, ITEMS])
    assert [item["id"] for item in found] == [7, 2, ITEMS]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"q": "x" * 201}, "q"),
        ({"id": ["one"]}, "id"),
        ({"id": [1] * 101}, "id"),
    ],
)
def test_a_wrong_search_names_its_field(service: Running, query: dict[str, object], field: str):
    answer = service.http.get("/titles", params=query)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["query", field]


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB [3], white D65."""
    x, y, z = np.cbrt(XYZ @ rgb.clip(0, 1) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    low, high = sorted((XYZ[1] @ linear(colour)) + 0.05 for colour in (one, other))
    return float(high / low)


def variables(scheme: str) -> dict[str, str]:
    """Colours of the style sheet, by name."""
    light, dark = (FOLDER / "page.css").read_text().split("@media (prefers-color-scheme: dark)")
    text = light if scheme == "light" else dark.split("}\n}")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_interests_are_told_apart_with_every_kind_of_sight(scheme: str):
    colours = variables(scheme)
    interests = [colours[f"interest-{number}"] for number in range(4)]
    for sight, matrix in SIGHT.items():
        seen = [lab(matrix @ linear(colour)) for colour in interests]
        for one, other in itertools.combinations(seen, 2):
            # 2.3 is a difference that is just noticed (Mahy et al. 1994)
            assert np.linalg.norm(one - other) > 20, sight
    assert min(contrast(colour, colours["on-tone"]) for colour in interests) > 4.5
    assert min(contrast(colour, colours["ground"]) for colour in interests) > 3
