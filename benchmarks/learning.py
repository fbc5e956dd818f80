"""What the agents learn: `python -m benchmarks.learning [NAME ...]` measures and keeps benchmarks/results/learning.json.

Returns are means of greedy evaluation episodes after training, one a seed; seeds 0 … 7 are reported, tuning used others.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxrl import platform

if __name__ == "__main__":
    platform.configure()

from benchmarks import record
from benchmarks.measures import (
    boltzmann_policy,
    garnet_error,
    online_return,
    q_error,
    returns,
    uniform_policy,
)
from benchmarks.oracles import frozen_lake_q, random_game_q

OPTIONS_OFF = {
    "double": False,
    "dueling": False,
    "n_step": 1,
    "prioritized": False,
    "distributional": "none",
    "noisy": False,
}
PPO_CLEANRL = "CleanRL, in training"
# Game, what must be reached, and at 1e7 steps the published return of gymnax-blines and PureJaxRL's PPO as run on 2 cores.
MINATAR = (("Breakout", 28, 28, 24), ("Asterix", 15, 15, 8), ("Freeway", 60, 58, 60), ("SpaceInvaders", 165, 131, 169))
CLEANRL = "CleanRL, ε-greedy, in training"


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "dqn CartPole-v1 (preset: CleanRL's settings)": lambda: returns(
        "dqn", "CartPole-v1", ">= 475 on every seed", published=f"488.7 ± 16.1 ({CLEANRL})"
    ),
    "dqn Acrobot-v1 (preset: CleanRL's settings)": lambda: returns(
        "dqn", "Acrobot-v1", ">= -90", published=f"-91.5 ± 7.2 ({CLEANRL})"
    ),
    "dqn MountainCar-v0 (preset)": lambda: returns(
        "dqn", "MountainCar-v0", ">= -125", published=f"-195.0 ± 8.5 ({CLEANRL}, other settings, 500k steps)"
    ),
    "dqn Breakout-MinAtar (preset)": lambda: returns(
        "dqn", "Breakout-MinAtar", "report", seeds=4, published="about 10 at 5M (Young & Tian 2019)"
    ),
    "pqn CartPole-v1 (preset)": lambda: returns("pqn", "CartPole-v1", ">= 475"),
    "pqn Breakout-MinAtar (preset, 2M steps)": lambda: returns(
        "pqn", "Breakout-MinAtar", "report; aim >= 20", seeds=4, total_steps=2_000_000
    ),
    **{
        f"{name} {env}": partial(returns, "dqn", env, "Rainbow not worse", preset=f"{env}-rainbow", config=config)
        for env in ("CartPole-v1", "Catch-bsuite")
        for name, config in (("rainbow (preset)", {}), ("dqn, Rainbow's settings with its options off,", OPTIONS_OFF))
    },
    "dqn DeepSea-bsuite, noisy nets (preset)": partial(
        returns, "dqn", "DeepSea-bsuite", "solved (return 0.99) on >= 7 of 8 seeds"
    ),
    "dqn DeepSea-bsuite, ε-greedy, else the same": partial(
        returns, "dqn", "DeepSea-bsuite", "beside noisy nets", config={"noisy": False}
    ),
    "neural_bandit DigitsBandit (preset), images not trained on": partial(
        returns,
        "neural_bandit",
        "DigitsBandit",
        ">= 0.9 right",
        env_kwargs={"split": "train"},
        evaluate_in={"split": "test"},
    ),
    "reinforce CartPole-v1 (preset)": lambda: returns("reinforce", "CartPole-v1", "mean >= 450"),
    "a2c CartPole-v1 (preset)": lambda: returns("a2c", "CartPole-v1", "report"),
    "ppo CartPole-v1 (preset: CleanRL's settings)": lambda: returns(
        "ppo", "CartPole-v1", ">= 485", published=f"488.8 ± 18.4 ({PPO_CLEANRL})"
    ),
    "ppo Acrobot-v1 (preset)": lambda: returns("ppo", "Acrobot-v1", ">= -90", published=f"-82.5 ± 5.9 ({PPO_CLEANRL})"),
    "ppo MountainCarContinuous-v0 (preset)": lambda: returns("ppo", "MountainCarContinuous-v0", ">= 90"),
    "ppo Pendulum-v1 (preset)": lambda: returns("ppo", "Pendulum-v1", ">= -250"),
    "sac Pendulum-v1 (preset)": lambda: returns("sac", "Pendulum-v1", ">= -170"),
    "sac CartPole-v1, discrete actions (preset)": lambda: returns("sac", "CartPole-v1", "report"),
    "td3 Pendulum-v1 (preset)": lambda: returns("td3", "Pendulum-v1", "report"),
    **{
        f"ppo {game}-MinAtar (preset)": partial(
            returns,
            "ppo",
            f"{game}-MinAtar",
            f">= {must}",
            seeds=4,
            published=f"{blines} (gymnax-blines), {pure} (PureJaxRL)",
        )
        for game, must, blines, pure in MINATAR
    },
    **{
        f"ppo {env}, {what}": partial(returns, "ppo", env, must, seeds=8, config=config, env_params=params)
        for env, params in (("MemoryChain-bsuite", {"memory_length": 20}), ("MazeNavigation", {}))
        for what, must, config in (("GRU (preset)", ">= 0.9", {}), ("MLP, else the same", "about 0", {"torso": "auto"}))
    },
    "r2d2 MemoryChain-bsuite (preset)": lambda: returns(
        "r2d2", "MemoryChain-bsuite", "report", env_params={"memory_length": 20}
    ),
    "ppo GearShift, hybrid actions (preset)": lambda: returns("ppo", "GearShift", "report"),
    "q_learning FrozenLake-misc, no slipping": lambda: q_error(
        "q_learning",
        "FrozenLake-misc",
        frozen_lake_q(0.99, slippery=False),
        "<= 0.02",
        env_kwargs={"is_slippery": False},
        total_steps=500_000,
        hparams={"gamma": 0.99, "learning_rate": 0.5, "learning_rate_decay": 0.0},
    ),
    "q_learning FrozenLake-misc, slippery": lambda: q_error(
        "q_learning",
        "FrozenLake-misc",
        frozen_lake_q(0.95, slippery=True),
        "<= 0.05 on pairs visited >= 1,000 times",
        visited=1000,
    ),
    "q_learning RandomGame": lambda: q_error(
        "q_learning",
        "RandomGame",
        random_game_q(0.9, num_states=10, num_actions=3),
        "<= 0.02",
    ),
    "double_q_learning FrozenLake-misc, slippery": lambda: q_error(
        "double_q_learning",
        "FrozenLake-misc",
        frozen_lake_q(0.95, slippery=True),
        "<= 0.05 on pairs visited >= 1,000 times",
        visited=1000,
    ),
    "q_learning 20 Garnet processes": lambda: garnet_error("q_learning", None, "<= 0.2"),
    "double_q_learning 20 Garnet processes": lambda: garnet_error("double_q_learning", None, "<= 0.3"),
    "expected_sarsa 20 Garnet processes, uniform policy": lambda: garnet_error("expected_sarsa", uniform_policy, "<= 0.2"),
    "expected_sarsa 20 Garnet processes, Boltzmann policy": lambda: garnet_error(
        "expected_sarsa", boltzmann_policy, "<= 0.2", exploration="boltzmann"
    ),
    "n_step_sarsa CliffWalking, greedy (preset)": lambda: returns("n_step_sarsa", "CliffWalking", "-15 or -17"),
    "q_learning CliffWalking, greedy": lambda: returns("q_learning", "CliffWalking", "-13 on every seed"),
    "sarsa CliffWalking, greedy": lambda: returns("sarsa", "CliffWalking", "-15 or -17: away from the edge"),
    "q_learning CliffWalking, in training": lambda: online_return("q_learning", "CliffWalking", "about -50 (example 6.6)"),
    "sarsa CliffWalking, in training": lambda: online_return(
        "sarsa", "CliffWalking", "about -25 (example 6.6)", preset="CliffWalking-book"
    ),
}


def main(names: list[str]) -> None:
    """Measure those whose name contains one of `names` (all by default); others keep the figure in the file."""
    file = record.RESULTS / "learning.json"
    measured: dict[str, dict[str, Any]] = {}
    for name, measure in MEASUREMENTS.items():
        if names and not any(part in name for part in names):
            continue
        measured[name] = {"name": name, **measure(), "measured": record.stamp()}
        record.show([measured[name]])
        rows = {row["name"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}
        rows |= measured
        record.save("learning", [rows[other] for other in MEASUREMENTS if other in rows])


if __name__ == "__main__":
    main(sys.argv[1:])
