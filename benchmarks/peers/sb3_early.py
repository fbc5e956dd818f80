"""Stable-Baselines3's SAC or TD3 on Pendulum-v1, evaluated early: `sb3_early.py sac|td3 SEED EPISODES STEPS...`.

Runs in an environment of its own; prints one JSON line: the mean greedy return after each number of steps.
"""

import json
import sys

import numpy as np
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise

agent, (seed, episodes, *points) = sys.argv[1], map(int, sys.argv[2:])
torch.set_num_threads(1)
noise = {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))} if agent == "td3" else {}
model = {"sac": SAC, "td3": TD3}[agent]("MlpPolicy", "Pendulum-v1", learning_rate=1e-3, seed=seed, device="cpu", **noise)
returns = []
for steps in points:
    model.learn(steps - model.num_timesteps, reset_num_timesteps=False)
    returns.append(float(evaluate_policy(model, model.get_env(), n_eval_episodes=episodes, deterministic=True)[0]))
    model._last_obs = None  # evaluation has stepped the environment: training goes on from a reset
print(json.dumps({"returns": returns}))
