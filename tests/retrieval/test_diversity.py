# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlerec_milvus.retrieval.candidates import Candidates
from paddlerec_milvus.retrieval.diversity import diverse


def pool_of(scores, interests=None, ids=None) -> Candidates:
    marks = np.array([scores], np.float32)
    numbers = np.arange(1, len(scores) + 1)[None] if ids is None else np.array([ids])
    owners = np.zeros_like(numbers) if interests is None else np.array([interests])
    return Candidates(numbers, marks, owners)


def chosen(scores, categories, weight, top_n, interests=None, quota=None) -> list[int]:
    pool = pool_of(scores, interests)
    found = diverse(pool, np.array([categories]), weight, top_n, quota).ids[0]
    return [int(item) - 1 for item in found if item != -1]


def value(places, scores, categories, weight) -> float:
    """Q of the paper, each pair once."""
    pairs = sum(categories[i] != categories[j] for i, j in combinations(places, 2))
    return sum(float(np.float32(scores[place])) for place in places) + weight * pairs


def step_by_step(scores, categories, interests, weight, top_n, quota) -> list[int]:
    """The same choice with each gain computed anew."""
    places: list[int] = []
    while len(places) < top_n:
        gains = {}
        for place in range(len(scores)):
            given = sum(interests[other] == interests[place] for other in places)
            if place not in places and (quota is None or given < quota):
                same = sum(categories[other] == categories[place] for other in places)
                gains[place] = float(np.float32(scores[place])) - weight * same
        if not gains:
            break
        places.append(max(gains, key=lambda place: (gains[place], -place)))
    return places


def test_by_hand():
    # gains with λ 0.25: a 1.0; then b .9 - .25, c .6, d .5 -> b .65; then c .6, d .5 -> c
    scores, categories = [1.0, 0.9, 0.6, 0.5], [7, 7, 8, 9]
    assert chosen(scores, categories, 0.25, 3) == [0, 1, 2]
    # λ 0.5: after a: b .4, c .6, d .5 -> c, d, then b
    assert chosen(scores, categories, 0.5, 4) == [0, 2, 3, 1]
    assert chosen(scores, categories, 0.0, 2) == [0, 1]
    assert chosen(scores, categories, 1e300, 3) == [0, 2, 3]
    # interest 0 may give one: b and c are not its only items
    assert chosen(scores, categories, 0.0, 3, interests=[0, 0, 0, 1], quota=1) == [0, 3]


def test_items_without_a_category_are_one_category():
    assert chosen([1.0, 0.9, 0.8, 0.5], [-1, -1, -1, 3], 0.6, 2) == [0, 3]


def test_users_do_not_mix_and_short_pools_give_short_lists():
    pool = Candidates(
        np.array([[5, 6, 7], [8, -1, -1], [-1, -1, -1]]),
        np.array([[3, 2, 1], [3, -np.inf, -np.inf], [-np.inf] * 3], np.float32),
        np.array([[0, 1, 0], [2, -1, -1], [-1, -1, -1]]),
    )
    found = diverse(pool, np.array([[1, 1, 2], [1, -1, -1], [-1, -1, -1]]), 5.0, 2)
    assert found.ids.tolist() == [[5, 7], [8, -1], [-1, -1]]
    assert found.scores.tolist() == [[3, 1], [3, -np.inf], [-np.inf, -np.inf]]
    assert found.interests.tolist() == [[0, 0], [2, -1], [-1, -1]]
    assert diverse(Candidates(*(part[:0] for part in pool)), np.empty((0, 3)), 1, 2).ids.size == 0


@st.composite
def pools(draw):
    size = draw(st.integers(1, 9))
    scores = sorted(draw(st.lists(st.integers(0, 6), min_size=size, max_size=size)), reverse=True)
    numbers = st.lists(st.integers(-1, 3), min_size=size, max_size=size)
    weight = draw(st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0, 50.0]))
    return [score / 8 for score in scores], draw(numbers), draw(numbers), weight


@settings(max_examples=300, deadline=None)
@given(pools(), st.integers(1, 10), st.none() | st.integers(1, 4))
def test_each_step_is_the_best_one(case, top_n, quota):
    scores, categories, interests, weight = case
    found = chosen(scores, categories, weight, top_n, interests, quota)
    assert found == step_by_step(scores, categories, interests, weight, top_n, quota)


@settings(max_examples=200, deadline=None)
@given(pools(), st.integers(1, 6))
def test_the_whole_choice_is_the_best_of_all(case, top_n):
    scores, categories, _, weight = case
    found = chosen(scores, categories, weight, top_n)
    best = max(
        value(places, scores, categories, weight)
        for places in combinations(range(len(scores)), min(top_n, len(scores)))
    )
    np.testing.assert_allclose(value(found, scores, categories, weight), best, atol=1e-6)


def test_more_weight_gives_no_fewer_pairs_of_different_categories():
    random = np.random.default_rng(5)
    scores, categories = -np.sort(-random.random(200)), random.integers(0, 12, 200).tolist()

    def pairs(weight: float) -> int:
        places = chosen(scores, categories, weight, 30)
        return sum(categories[i] != categories[j] for i, j in combinations(places, 2))

    counted = [pairs(weight) for weight in (0.0, 0.01, 0.02, 0.05, 0.1, 1.0)]
    assert counted == sorted(counted)
    assert counted[0] < counted[-1]
