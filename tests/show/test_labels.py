"""labels.py: labels say what differs, and no two are alike."""

from pathlib import Path

import pytest

import jaxrl
from jaxrl.show import labels
from jaxrl.show.labels import Shown


def shown(agent="dqn", where="a", setting=None, env="CartPole-v1", **hparams):
    base = jaxrl.Experiment(agent, env, total_steps=20_000, hparams=hparams, preset="none")
    return Shown(base, setting or {}, Path("runs") / where)


CASES = [
    ([shown(where="dqn")], ["dqn"]),
    ([shown(), shown("ppo", "b")], ["dqn", "ppo"]),
    ([shown(), shown("ppo", "b"), shown(where="c", tau=0.5)], ["dqn tau=1", "ppo", "dqn tau=0.5"]),
    ([shown(gamma=0.9), shown(where="b", gamma=0.5)], ["gamma=0.9", "gamma=0.5"]),
    ([shown(), shown(where="b")], ["runs/a", "runs/b"]),
    ([shown(setting={"gamma": g, "tau": 1.0}) for g in (0.9, 0.5)], ["gamma=0.9", "gamma=0.5"]),
    ([shown(), shown(env="Acrobot-v1", where="b")], ["CartPole-v1", "Acrobot-v1"]),
]


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_labels_say_what_differs(given, expected):
    assert labels.labels(given) == expected


def test_where_much_differs_the_directory_says_it_shorter():
    many = {"learning_rate": 0.1, "gamma": 0.5, "tau": 0.5, "epsilon_end": 0.2, "max_grad_norm": 3.0}
    assert labels.labels([shown(), shown(where="b", **many)]) == ["a", "b"]


def test_a_title_says_what_is_alike():
    assert labels.title([shown(), shown(where="b")]) == "dqn on CartPole-v1"
    assert labels.title([shown(), shown("ppo")]) == "CartPole-v1"
