"""Exact action values, in NumPy, from the rules of the games and not from our code."""

from __future__ import annotations

import numpy as np

LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up


def value_iteration(probability: np.ndarray, reward: np.ndarray, gamma: float, tolerance: float = 1e-10) -> np.ndarray:
    """Q* [S, A] of P(s' | s, a) [S, A, S], whose missing mass ends the episode, and expected rewards [S, A]."""
    q = np.zeros(reward.shape)
    while True:
        following = reward + gamma * probability @ q.max(1)
        if np.abs(following - q).max() < tolerance:
            return following
        q = following


def policy_evaluation(probability: np.ndarray, reward: np.ndarray, policy: np.ndarray, gamma: float) -> np.ndarray:
    """Q^π [S, A] of the linear equations Q(s, a) = r(s, a) + γ Σ P(s' | s, a) π(a' | s') Q(s', a'); policy [S, A]."""
    move = (probability[..., None] * policy).reshape(reward.size, reward.size)
    return np.linalg.solve(np.eye(reward.size) - gamma * move, reward.reshape(-1)).reshape(reward.shape)


def frozen_lake_q(gamma: float, slippery: bool) -> np.ndarray:
    """Q* [16, 4] of the 4 × 4 FrozenLake: slipping goes to each side with probability 1/3. Ends are worth 0."""
    tiles = "".join(LAKE)
    probability, reward = np.zeros((16, 4, 16)), np.zeros((16, 4))
    for s in range(16):
        if tiles[s] in "HG":
            continue
        for a in range(4):
            for direction in (a - 1, a, a + 1) if slippery else (a,):
                weight = 1 / 3 if slippery else 1.0
                down, right = MOVES[direction % 4]
                place = 4 * min(max(s // 4 + down, 0), 3) + min(max(s % 4 + right, 0), 3)
                reward[s, a] += weight * (tiles[place] == "G")
                probability[s, a, place] += weight * (tiles[place] not in "HG")
    return value_iteration(probability, reward, gamma)


def random_game_q(gamma: float, num_states: int, num_actions: int) -> np.ndarray:
    """Q* of RandomGame in closed form: 1 / (1 - γ) where s + a is odd, else 0."""
    s, a = np.indices((num_states, num_actions))
    return np.where((s + a) % 2 == 1, 1 / (1 - gamma), 0.0)
