"""settings.py: what is taken, what is refused, and that the message names it."""

import dataclasses
import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.settings import Count, Fraction, LoopConfig, NonNegative, Positive, Range, build, check, hyperparameters

INF = math.inf


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Range(low=1), [1, 2, 1e9], [0.999, 0, -1], ">= 1"),
        (Range(high=2), [2, -1e9], [2.001], "<= 2"),
        (Range(above=0), [1e-9, 5], [0, -1], "> 0"),
        (Range(above=0, high=1), [0.1, 1], [0, 1.1], "> 0 and <= 1"),
        (Positive, [1e-9], [0], "> 0"),
        (NonNegative, [0, 3], [-1e-9], ">= 0"),
        (Fraction, [0, 0.5, 1], [-0.01, 1.01], ">= 0 and <= 1"),
        (Count, [1, 7], [0, -3], ">= 1"),
    ],
)
def test_range(bounds, inside, outside, text):
    assert all(bounds.holds(x) for x in inside)
    assert not any(bounds.holds(x) for x in outside)
    assert str(bounds) == text


TAKEN = [  # value, hint, result
    (3, int, 3),
    (1e4, int, 10_000),
    (np.int64(7), int, 7),
    (np.float32(0.5), float, 0.5),
    (jnp.float32(0.5), float, 0.5),
    (2, float, 2.0),
    (True, bool, True),
    ("adam", str, "adam"),
    ("b", Literal["a", "b"], "b"),
    (2, Literal[1, 2], 2),
    ([64, 32.0], tuple[int, ...], (64, 32)),
    ((), tuple[int, ...], ()),
    (None, int | None, None),
    (1e3, int | None, 1000),
    (0.5, Annotated[float, Fraction], 0.5),
    ((1, 5), Annotated[tuple[int, ...], Count], (1, 5)),
    (None, Annotated[int | None, Count], None),
]


@pytest.mark.parametrize(("value", "hint", "result"), TAKEN)
def test_check_takes(value, hint, result):
    found = check("x", value, hint)
    assert found == result and type(found) is type(result)


REFUSED = [  # value, hint, what the message says besides the field's name
    (1.5, int, "must be an integer"),
    (INF, int, "must be an integer"),
    (math.nan, float, "must be a number"),
    ("3", int, "must be of type int"),
    ("3", float, "must be of type float"),
    (True, int, "must be of type int"),
    (False, float, "must be of type float"),
    (1, bool, "must be of type bool"),
    (5, str, "must be of type str"),
    ("abc", Literal["abd", "xyz"], "nearest: abd"),
    ("q", Literal["a", "b"], "not one of a, b"),
    (64, tuple[int, ...], "must be a sequence of int"),
    ("64", tuple[int, ...], "must be a sequence of int"),
    ([64, 0.5], tuple[int, ...], "must be an integer"),
    ([64, "a"], tuple[int, ...], "must be of type int"),
    (2.0, Annotated[float, Fraction], "out of range: must be >= 0 and <= 1"),
    (0, Annotated[int, Count], "out of range: must be >= 1"),
    ([3, 0], Annotated[tuple[int, ...], Count], "out of range: must be >= 1"),
    (-1, Annotated[int | None, Count], "out of range: must be >= 1"),
    ("2", int | None, "must be of type int"),
]
NO_NUMBERS = [([1], float), (None, float), ({}, int), (1j, float), ([3], int)]


@pytest.mark.parametrize(("value", "hint", "says"), REFUSED)
def test_check_refuses(value, hint, says):
    with pytest.raises(InputError, match="^x = ") as error:
        check("x", value, hint)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("value", "hint"), NO_NUMBERS)
def test_check_refuses_what_is_no_number(value, hint):
    with pytest.raises(InputError, match="^x = "):
        check("x", value, hint)


def test_traced_and_batched_values_pass_unread():
    """A sweep gives hyper-parameters as arrays; what a tracer holds cannot be looked at."""
    batch = jnp.array([-1.0, 5.0])
    assert check("x", batch, Annotated[float, Fraction]) is batch
    assert jax.jit(lambda x: check("x", x, Annotated[float, Fraction]) + 1)(5.0) == 6.0


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    hidden_sizes: Annotated[tuple[int, ...], Count] = (64,)
    loss: Literal["huber", "squared"] = "huber"


@hyperparameters
class HParams:
    learning_rate: Annotated[float, Positive] = 1e-3
    gamma: Annotated[float, Fraction] = 0.99


def test_build_overlays_the_defaults():
    config = build(Config, {"num_envs": 8.0, "hidden_sizes": [32, 16]}, "dqn")
    assert config == Config(num_envs=8, rollout_length=1, hidden_sizes=(32, 16), loss="huber")
    assert hash(config) == hash(Config(num_envs=8, hidden_sizes=(32, 16)))
    assert build(HParams, {"gamma": 1}, "dqn") == HParams(1e-3, 1.0)


@pytest.mark.parametrize(
    ("cls", "values", "says"),
    [
        (Config, {"num_env": 8}, r"unknown setting of dqn 'num_env'; nearest: num_envs"),
        (HParams, {"lerning_rate": 1}, r"unknown setting of dqn 'lerning_rate'; nearest: learning_rate"),
        (HParams, {"zzz": 1}, r"unknown setting of dqn 'zzz'; valid: gamma, learning_rate"),
        (Config, {"num_envs": 0}, r"num_envs = 0 is out of range: must be >= 1"),
        (Config, {"rollout_length": 2.5}, r"rollout_length = 2.5 must be an integer"),
        (Config, {"loss": "hubber"}, r"loss = 'hubber' is not one of huber, squared; nearest: huber"),
        (HParams, {"learning_rate": 0.0}, r"learning_rate = 0.0 is out of range: must be > 0"),
        (HParams, {"gamma": 1.01}, r"gamma = 1.01 is out of range: must be >= 0 and <= 1"),
    ],
)
def test_build_names_what_is_wrong(cls, values, says):
    with pytest.raises(InputError, match=says):
        build(cls, values, "dqn")


def test_every_hyperparameter_is_a_leaf():
    assert jax.tree.leaves(HParams(0.1, 0.9)) == [0.1, 0.9]
    assert jax.tree.map(lambda x: 2 * x, HParams(0.1, 0.4)) == HParams(0.2, 0.8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        HParams().gamma = 1.0
