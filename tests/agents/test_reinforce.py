"""agents/reinforce.py: its loss and gradient by hand, on a network whose outputs are its heads' biases, and by NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl.agents import a2c, reinforce
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.experiment.experiment import resolve

SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
VALUE = 0.5
LN2 = float(np.log(2))


def setup(hparams=None, **config):
    """π uniform and V = VALUE in every state."""
    agent = reinforce.make(SPEC, reinforce.Config(**({"num_envs": 1, "rollout_length": 2, "hidden_sizes": (4,)} | config)))
    hp = reinforce.HParams(**({"gamma": 0.5, "max_grad_norm": 1e9, "entropy_coef": 0.0} | (hparams or {})))
    params = jax.tree.map(jnp.zeros_like, agent.init(jax.random.key(0), hp).learner.params)
    params["params"]["value_head"]["bias"] = jnp.array([VALUE])
    return agent, hp, agent.init(jax.random.key(0), hp, params)


def rollout(rewards, actions, terminated=(False, True), truncated=(False, False), valid=(True, True)):
    """Two steps of one environment."""

    def column(x, dtype):
        return jnp.array(x, dtype)[:, None]

    obs = jnp.zeros((2, 1, 3))
    flags = [column(x, bool) for x in (terminated, truncated, valid)]
    first = column((True, False), bool)
    steps = Transition(
        obs, first, column(actions, jnp.int32), column(rewards, jnp.float32), flags[0], flags[1], obs, (), flags[2]
    )
    return Rollout(steps, ())


def learn(agent, hp, state, steps, progress=1.0):
    clock = Clock(jnp.int32(2), jnp.float32(progress))
    after, metrics = jax.jit(agent.learn)(hp, state, steps, clock, jax.random.key(0))
    return after, {name: float(m.value) for name, m in metrics.items()}


# Rewards 1, 2 with γ = ½: the G of both steps.
RETURNS = {
    "terminated": ({}, {}, [1 + 0.5 * 2, 2.0]),
    "truncated bootstraps": (
        {},
        {"terminated": (False, False), "truncated": (False, True)},
        [1 + 0.5 * 2.25, 2 + 0.5 * VALUE],
    ),
    "rollout's end, if told to": (
        {"bootstrap": True},
        {"terminated": (False, False)},
        [1 + 0.5 * 2.25, 2 + 0.5 * VALUE],
    ),
    "more than may wait": (
        {"max_episode_length": 1},
        {"terminated": (False, False)},
        [1 + 0.5 * 2.25, 2 + 0.5 * VALUE],
    ),
    "both ends": ({}, {"truncated": (False, True)}, [2.0, 2.0]),
    "cut in the middle": ({}, {"truncated": (True, False)}, [1 + 0.5 * VALUE, 2.0]),
}


@pytest.mark.parametrize("case", RETURNS)
def test_losses_by_hand(case):
    config, step, returns = RETURNS[case]
    agent, hp, state = setup(**config)
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], **step))
    advantages = np.array(returns) - VALUE
    np.testing.assert_allclose(metrics["policy_loss"], np.mean(advantages * LN2), rtol=1e-6)
    np.testing.assert_allclose(metrics["value_loss"], np.mean(advantages**2) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["entropy"], LN2, rtol=1e-6)


def test_without_baseline_by_hand():
    """A truncated return stops at the cut. An unfinished episode waits: its second half makes the first count."""
    agent, hp, state = setup({"learning_rate": 1e-9}, baseline=False)
    _, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], (False, False), (False, True)))
    np.testing.assert_allclose(metrics["policy_loss"], np.mean([2.0, 2.0]) * LN2, rtol=1e-6)
    after, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], terminated=(True, False)))
    np.testing.assert_allclose([metrics["policy_loss"], metrics["value_loss"]], [1.0 * LN2, 0.0], rtol=1e-6)
    _, metrics = learn(agent, hp, after, rollout([1, 4], [0, 1], terminated=(True, True)))
    np.testing.assert_allclose(metrics["policy_loss"], np.mean([2.5, 1.0, 4.0]) * LN2, rtol=1e-6)


def test_nothing_moves_before_an_episode_ends():
    agent, hp, state = setup()
    after, metrics = learn(agent, hp, state, rollout([1, 2], [0, 1], terminated=(False, False)))
    jax.tree.map(np.testing.assert_array_equal, after.learner, state.learner)
    assert np.isnan(metrics["loss"])


def test_bootstrap_needs_a_baseline():
    with pytest.raises(ValueError, match="bootstrap = True needs baseline = True"):
        resolve("reinforce", "CartPole-v1", config={"bootstrap": True, "baseline": False})


T, N, CALLS = 6, 3, 8


@functools.cache
def played():
    """CALLS rollouts of N environments of the policy that does not look: episodes of 7 steps on average."""
    rng = np.random.default_rng(0)
    shape = (CALLS * T, N)
    obs, next_obs = (rng.normal(size=(*shape, 3)).astype(np.float32) for _ in range(2))
    terminated, truncated = (rng.random(shape) < 0.07 for _ in range(2))
    first = np.concatenate([np.ones((1, N), bool), (terminated | truncated)[:-1]])
    reward, action = rng.normal(size=shape).astype(np.float32), rng.integers(0, 2, shape).astype(np.int32)
    return Transition(obs, first, action, reward, terminated, truncated, next_obs, (), np.ones(shape, bool))


def learnt(module, steps, length=T, memory=(), hparams=None, **config):
    """What is learnt before and after `steps` [CALLS · T, N], `length` a call."""
    sizes = {"num_envs": N, "rollout_length": length, "hidden_sizes": ()}
    sizes |= {"max_episode_length": CALLS * T} if module is reinforce else {}
    agent = module.make(SPEC, module.Config(**(sizes | config)))
    fields = {"gamma": 0.9, "max_grad_norm": 1e9, "entropy_coef": 0.0, "learning_rate": 0.1, "learning_rate_anneal": 0.0}
    hp = module.HParams(**(fields | (hparams or {})))
    program, state = jax.jit(agent.learn), agent.init(jax.random.key(0), hp)
    learner_of = lambda state: getattr(state, "learner", state)  # noqa: E731
    start = learner_of(state)
    for begin in range(0, len(steps.reward), length):
        part = jax.tree.map(lambda x, begin=begin: jnp.array(x[begin : begin + length]), steps)
        state, _ = program(hp, state, Rollout(part, memory), Clock(jnp.int32(0), jnp.float32(0)), jax.random.key(0))
    return start, learner_of(state)


class Adam:
    """Kingma & Ba 2015, algorithm 1, on a dict of arrays."""

    def __init__(self, rate):
        self.rate, self.count, self.mean, self.square = rate, 0, {}, {}

    def step(self, weights, gradients):
        self.count += 1
        for name, g in gradients.items():
            self.mean[name] = 0.9 * self.mean.get(name, 0) + 0.1 * g
            self.square[name] = 0.999 * self.square.get(name, 0) + 0.001 * g**2
            mean, square = self.mean[name] / (1 - 0.9**self.count), self.square[name] / (1 - 0.999**self.count)
            weights[name] = weights[name] - self.rate * mean / (np.sqrt(square) + 1e-5)


def plain_reinforce(weights, steps, baseline, gamma=0.9):
    """REINFORCE of a linear softmax policy and a linear baseline, episode by episode, in float64."""
    adam, open_episodes = Adam(0.1), [[] for _ in range(N)]
    for begin in range(0, CALLS * T, T):
        ended = []
        for t, n in np.ndindex(T, N):
            row = jax.tree.map(lambda x, t=begin + t, n=n: np.float64(x[t, n]), steps)
            open_episodes[n].append(row)
            if row.terminated or row.truncated:
                ended.append(open_episodes[n])
                open_episodes[n] = []
        if not ended:
            continue
        gradients, number = {name: np.zeros_like(w) for name, w in weights.items()}, sum(map(len, ended))
        for episode in ended:
            cut = baseline and not episode[-1].terminated
            g = episode[-1].next_obs @ weights["value"] + weights["value_bias"] if cut else 0.0
            for row in reversed(episode):
                g = row.reward + gamma * g
                logits = row.obs @ weights["policy"] + weights["policy_bias"]
                pi = np.exp(logits) / np.exp(logits).sum()
                error = g - (row.obs @ weights["value"] + weights["value_bias"]) * baseline
                ascent = error * (np.eye(2)[int(row.action)] - pi)
                gradients["policy"] -= np.outer(row.obs, ascent) / number
                gradients["policy_bias"] -= ascent / number
                gradients["value"] -= 0.5 * baseline * error * row.obs / number
                gradients["value_bias"] -= 0.5 * baseline * error / number
        adam.step(weights, gradients)
    return weights


def linear(params):
    heads = jax.tree.map(np.float64, params["params"])
    policy, value = heads["policy_head"]["Dense_0"], heads["value_head"]
    return {"policy": policy["kernel"], "policy_bias": policy["bias"], "value": value["kernel"][:, 0],
            "value_bias": value["bias"][0]}  # fmt: skip


@pytest.mark.parametrize("baseline", [True, False])
def test_whole_episodes_by_numpy(baseline):
    """Eight rollouts, whose ends cut episodes, beside a loop that learns from each episode when it has ended."""
    steps = played()
    crossing = ~steps.first[T::T]
    assert crossing.any() and not crossing.all()
    start, state = learnt(reinforce, steps, baseline=baseline)
    expected = plain_reinforce(linear(start.params), steps, baseline)
    for name, value in linear(state.params).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_only_bootstrapping_is_a2c():
    """With λ = 1, for A2C that is. By whole episodes something else is learnt."""
    learn_all = lambda module, **settings: ravel_pytree(learnt(module, played(), **settings)[1].params)[0]  # noqa: E731
    plain, bootstrapped = learn_all(reinforce), learn_all(reinforce, bootstrap=True)
    other = learn_all(a2c, hparams={"gae_lambda": 1.0})
    np.testing.assert_allclose(bootstrapped, other, rtol=1e-5, atol=1e-6)
    assert np.abs(plain - other).max() > 0.01


@pytest.mark.parametrize("torso", ["mlp", "gru"])
def test_rollouts_of_any_length_make_the_same_episodes(torso):
    """Episodes that all end in the last rollout: learnt once, the same from one rollout of 48 steps as from eight of 6.

    With a memory the episode's first half is unrolled with its second, so that it is what acting had.
    """
    steps = played()
    quiet = np.zeros_like(steps.first)
    last = quiet.copy()
    last[-4:] = steps.terminated[-4:] | np.eye(4, N, dtype=bool)
    steps = steps._replace(terminated=last, truncated=quiet, first=np.concatenate([~quiet[:1], last[:-1]]))
    memory = jnp.zeros((N, 5))
    sizes = {"torso": torso, "hidden_sizes": (5,), "memory": (memory, memory) if torso == "gru" else ()}
    whole, parts = (learnt(reinforce, steps, length, **sizes)[1] for length in (T * CALLS, T))
    assert int(whole.opt_state[1][0].count) == int(parts.opt_state[1][0].count) == 1
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_invalid_rows_do_not_count():
    agent, hp, state = setup()
    _, metrics = learn(agent, hp, state, rollout([4, 2], [0, 1], valid=(False, True)))
    np.testing.assert_allclose(metrics["policy_loss"], (2 - VALUE) * LN2, rtol=1e-6)


def test_policy_gradient_on_a_bandit_is_the_analytic_one():
    """∇ of E[r log π(a)] in the logits θ is E[A (1_a - π)] (Sutton & Barto, 2nd ed., section 13.3); Adam sees its sign,
    so the gradient is read from its first moment, (1 - β₁) g."""
    agent, hp, state = setup({"value_coef": 0.0})
    after, _ = learn(agent, hp, state, rollout([1, 3], [0, 1], terminated=(True, True)))
    advantages = np.array([1.0, 3.0]) - VALUE
    gradient = -np.mean([advantages[0] * np.array([0.5, -0.5]), advantages[1] * np.array([-0.5, 0.5])], 0)
    moment = ravel_pytree(after.learner.params)[1](after.learner.opt_state[1][0].mu)[
        "params"
    ]  # Adam keeps one vector for all
    np.testing.assert_allclose(moment["policy_head"]["Dense_0"]["bias"] / 0.1, gradient, rtol=1e-5)


def test_gradient_norm_is_clipped_over_all_parameters():
    agent, hp, state = setup({"max_grad_norm": 0.01})
    after, _ = learn(agent, hp, state, rollout([1, 2], [0, 1]))
    squares = [float(jnp.sum((x / 0.1) ** 2)) for x in jax.tree.leaves(after.learner.opt_state[1][0].mu)]
    np.testing.assert_allclose(sum(squares) ** 0.5, 0.01, rtol=1e-4)


@pytest.mark.parametrize(("anneal", "progress", "share"), [(0.0, 1.0, 1.0), (1.0, 0.25, 0.75), (0.5, 0.5, 0.75)])
def test_step_size_anneals(anneal, progress, share):
    agent, hp, state = setup({"learning_rate": 0.1, "learning_rate_anneal": anneal})
    after, _ = learn(agent, hp, state, rollout([1, 2], [0, 1]), progress)
    moved = after.learner.params["params"]["value_head"]["bias"] - VALUE
    np.testing.assert_allclose(moved, 0.1 * share, rtol=1e-4)  # Adam's first step has the size of the learning rate
