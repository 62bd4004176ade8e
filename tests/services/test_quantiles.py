"""Histograms: small, mergeable, within one per cent."""

import random

import pytest

from services.quantiles import RELATIVE_ERROR, Histogram


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    return histogram


def test_quantiles_are_within_one_per_cent_of_the_sorted_values():
    values = sorted(random.Random(1).lognormvariate(-3, 2) for _ in range(2000))
    histogram = filled(values)
    for q in (0, .01, .5, .9, .99, .999, 1):
        exact = values[int(q * (len(values) - 1))]
        assert histogram.quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.01), q


def test_merging_two_histograms_equals_filling_one():
    first, second = [.01, .02, 5.0], [.02, 300.0]
    merged = filled(first)
    merged.merge(filled(second).counts)
    assert merged.counts == filled(first + second).counts


def test_an_empty_histogram_has_no_quantiles():
    assert Histogram().quantile(.5) is None


def test_zero_negative_infinite_and_nan_values_stay_bounded():
    histogram = filled([0.0, -1.0, float("inf"), float("nan")])
    assert histogram.total == 3
    assert histogram.quantile(0) < 1e-8
    assert histogram.quantile(1) > 9e8


def test_a_day_of_control_periods_needs_few_buckets():
    generator = random.Random(2)
    assert len(filled(generator.gauss(.05, .001) for _ in range(20000)).counts) < 50
