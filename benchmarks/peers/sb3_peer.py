"""Stable-Baselines3 or sbx on CartPole-v1 with CleanRL's hyper-parameters: `sb3_peer.py sb3|sbx dqn|ppo STEPS`.

Runs in an environment of its own; prints one JSON line. What is timed is STEPS of learning after some that are not, so that
DQN's replay is filled and sbx has compiled.
"""

import json
import sys
import time
from importlib import import_module

from stable_baselines3.common.env_util import make_vec_env

library_name, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
library = import_module({"sb3": "stable_baselines3", "sbx": "sbx"}[library_name])
WARM_UP = 12_000
device = {"device": "cpu"} if library_name == "sb3" else {}
if name == "ppo":
    model = library.PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 4),
        n_steps=128,
        batch_size=128,
        n_epochs=4,
        learning_rate=2.5e-4,
        ent_coef=0.01,
        **device,
    )
else:
    model = library.DQN(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 10),
        policy_kwargs={"net_arch": [64, 64]},
        buffer_size=10_000,
        learning_starts=10_000,
        batch_size=128,
        train_freq=1,
        gradient_steps=1,
        target_update_interval=500,
        learning_rate=2.5e-4,
        exploration_fraction=0.5,
        exploration_final_eps=0.05,
        **device,
    )
model.learn(WARM_UP)
start = time.perf_counter()
model.learn(steps, reset_num_timesteps=False)
run_s = time.perf_counter() - start
print(json.dumps({"run_s": run_s, "steps_per_s": steps / run_s}))
