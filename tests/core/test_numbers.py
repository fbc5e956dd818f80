"""Digits by the size of a number, as a person would write them."""

import math

import pytest

from jaxrl.core.numbers import interval, readable


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.74, "0.740"), (-0.0312, "-0.0312"), (9.374, "9.37"), (21.43, "21.4"), (-160.42, "-160.4"), (500.0, "500.0"),
        (1342.7, "1343"), (-98765.4, "-98765"), (0.0, "0"), (1.0, "1.00"), (3.2e9, "3.2e+09"), (1.234e-6, "1.23e-06"),
        (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "-"), (None, "-"),
    ],
)  # fmt: skip
def test_a_number_alone(x, text):
    assert readable(x) == text


def test_numbers_beside_each_other_have_the_same_decimals():
    assert readable(0.74, 12.0) == "0.7" and readable(9.96, 10.2) == "10.0"
    assert interval(0.7021, 0.7789) == "[0.702, 0.779]"
    assert interval(99.5, 1200.2) == "[100, 1200]"
    assert interval(1.0, 2.0, 300.0) == "[1.0, 2.0]"


@pytest.mark.parametrize("ends", [(None, None), (math.nan, math.nan), (None, 1.0), (1.0, math.nan)])
def test_an_unknown_interval_is_a_dash(ends):
    assert interval(*ends) == "-"
