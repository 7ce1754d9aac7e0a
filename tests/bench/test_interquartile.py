"""Interquartile means and bootstrap intervals equal what is computed by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from robotrl.bench.interquartile import bootstrap_interval, interquartile_mean


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # a quarter of three is no whole score
        ([100.0, 1.0, 2.0, 3.0], 2.5),
        ([5.0, -50.0, 4.0, 6.0, 900.0], 5.0),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 99.0, 99.0], 2.5),
    ],
)
def test_the_lowest_and_the_highest_quarter_do_not_count(scores: list[float], mean: float) -> None:
    assert interquartile_mean(scores) == pytest.approx(mean)


def test_every_row_has_its_own_mean() -> None:
    np.testing.assert_allclose(interquartile_mean([[4.0, 1.0, 2.0, 90.0], [1.0, 1.0, 1.0, 1.0]]), [3.0, 1.0])


def test_interval_is_that_of_all_possible_resamples() -> None:
    """Four scores have 256 equally likely resamples; their exact quantiles are known."""
    scores = [0.0, 1.0, 2.0, 10.0]
    exact = np.quantile([interquartile_mean(drawn) for drawn in product(scores, repeat=4)], (0.025, 0.975))
    assert bootstrap_interval([scores]) == pytest.approx(tuple(exact), abs=0.5)


def test_equal_scores_leave_no_doubt() -> None:
    assert bootstrap_interval([[3.0] * 5]) == (3.0, 3.0)


def test_seeds_are_drawn_within_their_task() -> None:
    """Tasks without spread leave no doubt, however different they are from each other."""
    assert bootstrap_interval([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]) == (1.5, 1.5)


def test_the_interval_is_the_same_every_time() -> None:
    scores = [[1.0, 5.0, 3.0], [2.0, 8.0]]
    assert bootstrap_interval(scores) == bootstrap_interval(scores)
