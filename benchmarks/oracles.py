"""Exact action values, in NumPy, from the rules of the games and not from our code."""

from __future__ import annotations

import numpy as np

LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up


def value_iteration(probability: np.ndarray, reward: np.ndarray, gamma: float, tolerance: float = 1e-10) -> np.ndarray:
    """Q* [S, A] of P(s' | s, a) [S, A, S], whose missing mass ends the episode, and expected rewards [S, A]."""
    q = np.zeros(reward.shape)
    while True:
        improved = reward + gamma * probability @ q.max(1)
        if np.abs(improved - q).max() < tolerance:
            return improved
        q = improved


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


def taxi_q(gamma: float) -> np.ndarray:
    """Q* [500, 6] of Taxi-v4 from the transitions that Gymnasium lists of it."""
    from gymnasium.envs.toy_text.taxi import TaxiEnv

    listed = TaxiEnv().P
    probability, reward = np.zeros((500, 6, 500)), np.zeros((500, 6))
    for s, a in np.ndindex(reward.shape):
        for weight, place, gain, ended in listed[s][a]:
            reward[s, a] += weight * gain
            probability[s, a, place] += weight * (not ended)
    return value_iteration(probability, reward, gamma)


CARDS = np.array([0] + [1] * 9 + [4]) / 13  # the chance of each value of a card, ace (1) to ten, of an endless deck


def blackjack_q() -> np.ndarray:
    """Q* [32 · 11 · 2, 2] of Blackjack (Sutton & Barto, 2nd ed., example 5.1), without discount: to stick, to hit.

    States are (the player's sum, the card that the dealer shows, whether an ace counts as 11). To stick at 21 with an ace is
    NaN: a natural wins where other sums of 21 do not, and is not told from them. What cannot be is worth 0.
    """
    q = np.zeros((32, 11, 2, 2))
    for shown in range(1, 11):
        ends = _dealer(*_drawn(0, False, shown))
        for total in range(4, 22):
            q[total, shown, :, 0] = sum(p * np.sign(total - (end if end <= 21 else 0)) for end, p in ends.items())
        # What a hit leads to comes first: hard sums above 10 lead to higher ones, soft ones to these, the others to all.
        for usable, totals in ((False, range(21, 10, -1)), (True, range(21, 11, -1)), (False, range(10, 3, -1))):
            for total in totals:
                hit = 0.0
                for card in range(1, 11):
                    after, soft = _drawn(total, usable, card)
                    hit += CARDS[card] * (q[after, shown, int(soft)].max() if after <= 21 else -1.0)
                q[total, shown, int(usable), 1] = hit
    q[:12, :, 1], q[21, :, 1, 0] = 0, np.nan
    return q.reshape(-1, 2)


def _drawn(total: int, usable: bool, card: int) -> tuple[int, bool]:
    """(sum, usable ace) with one card more."""
    total, soft = total + card, usable
    if card == 1 and not usable and total + 10 <= 21:
        total, soft = total + 10, True
    if total > 21 and soft:
        total, soft = total - 10, False
    return total, soft


def _dealer(total: int, usable: bool) -> dict[int, float]:
    """Chances of the sums that a dealer ends with, who hits until 17 or more."""
    if total >= 17:
        return {total: 1.0}
    ends: dict[int, float] = {}
    for card in range(1, 11):
        for end, p in _dealer(*_drawn(total, usable, card)).items():
            ends[end] = ends.get(end, 0.0) + CARDS[card] * p
    return ends
