"""PPO in PyTorch as CleanRL writes it, on ale-py's emulators, with our settings for Pong: `torch_atari.py GAME STEPS`.

The network of Mnih et al. 2015, one torso for both heads, 16 emulators × 128 steps, 3 epochs of 8 minibatches. Runs in an
environment of its own; prints one JSON line. An iteration before the clock starts does not count.
"""

import json
import sys
import time

import numpy as np
import torch
from ale_py.vector_env import AtariVectorEnv
from torch import nn

GAME, STEPS = sys.argv[1], int(sys.argv[2])
ENVS, LENGTH, EPOCHS, MINIBATCHES = 16, 128, 3, 8
GAMMA, LAMBDA, CLIP, ENTROPY, VALUE, GRADIENT, RATE = 0.99, 0.95, 0.1, 0.01, 0.5, 0.5, 2.5e-4


def layer(made, gain=2**0.5):
    nn.init.orthogonal_(made.weight, gain)
    nn.init.zeros_(made.bias)
    return made


class Network(nn.Module):
    def __init__(self, actions):
        super().__init__()
        self.torso = nn.Sequential(
            *(layer(nn.Conv2d(4, 32, 8, 4)), nn.ReLU(), layer(nn.Conv2d(32, 64, 4, 2)), nn.ReLU()),
            *(layer(nn.Conv2d(64, 64, 3, 1)), nn.ReLU(), nn.Flatten(), layer(nn.Linear(3136, 512)), nn.ReLU()),
        )
        self.policy, self.value = layer(nn.Linear(512, actions), 0.01), layer(nn.Linear(512, 1), 1.0)

    def forward(self, frames):
        features = self.torso(frames / 255.0)
        return torch.distributions.Categorical(logits=self.policy(features)), self.value(features)[:, 0]


envs = AtariVectorEnv(GAME, ENVS, noop_max=0, use_fire_reset=False, reward_clipping=False, repeat_action_probability=0.25)
network = Network(int(envs.single_action_space.n))  # type: ignore[attr-defined]
optimizer = torch.optim.Adam(network.parameters(), RATE, eps=1e-5)
obs = torch.zeros((LENGTH, ENVS, 4, 84, 84), dtype=torch.uint8)
action, log_prob, reward, done, value = (torch.zeros((LENGTH, ENVS)) for _ in range(5))
now = torch.as_tensor(np.array(envs.reset(seed=0)[0]))
over = torch.zeros(ENVS)


def iteration():
    global now, over
    for t in range(LENGTH):
        obs[t], done[t] = now, over
        with torch.no_grad():
            policy, value[t] = network(now)
            action[t] = policy.sample()
            log_prob[t] = policy.log_prob(action[t])
        frames, gained, terminated, truncated, _ = envs.step(action[t].numpy().astype(np.int32))
        now, reward[t] = torch.as_tensor(np.array(frames)), torch.as_tensor(np.asarray(gained, np.float32))
        over = torch.as_tensor((terminated | truncated).astype(np.float32))
    advantage, last = torch.zeros((LENGTH, ENVS)), torch.zeros(ENVS)
    with torch.no_grad():
        next_value, goes_on = network(now)[1], 1 - over
        for t in reversed(range(LENGTH)):
            last = reward[t] + GAMMA * next_value * goes_on - value[t] + GAMMA * LAMBDA * goes_on * last
            advantage[t], next_value, goes_on = last, value[t], 1 - done[t]
    data = [x.flatten(0, 1) for x in (obs, action, log_prob, advantage, advantage + value, value)]
    for _ in range(EPOCHS):
        for rows in torch.randperm(LENGTH * ENVS).split(LENGTH * ENVS // MINIBATCHES):
            update(*(x[rows] for x in data))


def update(frames, taken, before, gain, target, old):
    policy, new = network(frames)
    ratio = (policy.log_prob(taken) - before).exp()
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    policy_loss = torch.max(-gain * ratio, -gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
    clipped = old + (new - old).clamp(-CLIP, CLIP)
    value_loss = 0.5 * torch.max((new - target) ** 2, (clipped - target) ** 2).mean()
    loss = policy_loss - ENTROPY * policy.entropy().mean() + VALUE * value_loss
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), GRADIENT)
    optimizer.step()


iteration()
start, iterations = time.perf_counter(), -(-STEPS // (ENVS * LENGTH))
for _ in range(iterations):
    iteration()
run_s = time.perf_counter() - start
print(json.dumps({"run_s": run_s, "steps_per_s": iterations * ENVS * LENGTH / run_s}))
