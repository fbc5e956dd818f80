"""agents/neural_bandit.py: each exploration by hand, the posterior against numpy's inverse, and digits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxrl
from jaxrl.agents import neural_bandit
from jaxrl.agents.neural_bandit import Config, HParams, Predictions
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, Env, EnvSpec, EnvStep, Rollout, Transition
from jaxrl.replay import ring, uniform

D, A = 4, 3
SPEC = EnvSpec("Context", Box((D,), -1.0, 1.0), Discrete(A))
SMALL = Config(num_envs=2, hidden_sizes=(5,), replay_capacity=100, batch_size=8, learning_starts=0, ensemble_size=3)
START = Clock(jnp.int32(0), jnp.float32(0))
DRAWS = 20_000


def rows(t, n, seed=0, valid_share=0.7):
    """A Rollout [T, N] of random pulls."""
    rng = np.random.default_rng(seed)
    obs = jnp.array(rng.uniform(-1, 1, (t, n, D)), jnp.float32)
    action, reward = jnp.array(rng.integers(0, A, (t, n)), jnp.int32), jnp.array(rng.normal(size=(t, n)), jnp.float32)
    valid, no = jnp.array(rng.random((t, n)) < valid_share), jnp.zeros((t, n), bool)
    return Rollout(Transition(obs, no, action, reward, ~no, no, obs, (), valid), ())


def network(params, member, obs):
    """One network in NumPy: rewards [..., A] and features [..., F], the last of them 1."""
    p = jax.tree.map(lambda x: np.asarray(x[member], np.float64), params)["params"]
    torso = p["torso"]
    while "kernel" not in torso:
        torso = next(iter(torso.values()))
    hidden = np.maximum(np.asarray(obs, np.float64) @ torso["kernel"] + torso["bias"], 0)
    head = p["Dense_0"]
    return hidden @ head["kernel"] + head["bias"], np.concatenate([hidden, np.ones((*hidden.shape[:-1], 1))], -1)


def made(**changes):
    agent = neural_bandit.make(SPEC, dataclasses.replace(SMALL, **changes))
    agent = agent._replace(init=jax.jit(agent.init), learn=jax.jit(agent.learn))
    return agent, agent.init(jax.random.key(0), HParams())


def test_sherman_morrison_is_the_inverse():
    """200 observations, one after another, against one inverse in double precision; and φᵀ Σ φ beside it."""
    phi = np.random.default_rng(0).normal(size=(200, 6))
    sigma = jax.lax.scan(
        lambda s, x: (neural_bandit.sherman_morrison(s, x), None), 4.0 * jnp.eye(6), jnp.array(phi, jnp.float32)
    )[0]
    expected = np.linalg.inv(np.eye(6) / 4 + phi.T @ phi)
    np.testing.assert_allclose(sigma, expected, rtol=1e-3, atol=1e-6)
    found = neural_bandit.deviations(jnp.stack([sigma, jnp.eye(6)]), jnp.array(phi[0], jnp.float32))
    np.testing.assert_allclose(found, [np.sqrt(phi[0] @ expected @ phi[0]), np.linalg.norm(phi[0])], rtol=1e-3)


def test_learn_takes_each_valid_pull_into_its_actions_posterior():
    agent, _ = made(exploration="bayesian", num_envs=5)
    hp = HParams(prior_scale=3.0)
    state = agent.init(jax.random.key(0), hp)
    np.testing.assert_allclose(state.learner.covariance, np.tile(9 * np.eye(6), (A, 1, 1)))
    pulls = rows(8, 5)
    after, _ = agent.learn(hp, state, pulls, START, jax.random.key(1))
    phi = network(state.learner.params, 0, pulls.steps.obs)[1]
    for a in range(A):
        of = phi[np.asarray(pulls.steps.valid & (pulls.steps.action == a))]
        assert 3 < len(of) < 40
        expected = np.linalg.inv(np.eye(6) / 9 + of.T @ of)
        np.testing.assert_allclose(after.learner.covariance[a], expected, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("exploration", ["epsilon_greedy", "ensemble"])
def test_values_are_the_mean_of_the_networks(exploration):
    agent, state = made(exploration=exploration)
    obs = rows(1, 7).steps.obs[0]
    members = 3 if exploration == "ensemble" else 1
    expected = np.mean([network(state.learner.params, e, obs)[0] for e in range(members)], 0)
    np.testing.assert_allclose(agent.values(HParams(), state, obs), expected, rtol=1e-4, atol=1e-5)
    action, _ = agent.greedy(HParams(), state, (), obs, obs[:, 0] > 9, jax.random.key(0))
    np.testing.assert_array_equal(action, expected.argmax(-1))
    assert {x.shape[0] for x in jax.tree.leaves(state.learner.params)} == {members}


def frequencies(exploration, hp, state, seen, progress=0.0):
    seen = jax.tree.map(lambda x: jnp.repeat(jnp.array(x, jnp.float32)[:, None], DRAWS, 1), seen)
    clock = Clock(jnp.int32(0), jnp.float32(progress))
    action = jax.jit(neural_bandit.CHOICES[exploration])(hp, state, seen, clock, jax.random.key(2))
    assert action.dtype == jnp.int32
    return np.bincount(action, minlength=seen.rewards.shape[-1]) / DRAWS


def close(found, expected):
    """Within five standard deviations of a frequency."""
    expected = np.array(expected)
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / DRAWS)).all(), (found, expected)


def test_epsilon_greedy_chooses_the_best_or_anything():
    seen = Predictions(np.array([[0.1, 0.9, 0.2]]), np.ones((1, 2)))
    hp = HParams(epsilon_start=0.9, epsilon_end=0.3, epsilon_fraction=0.5)
    close(frequencies("epsilon_greedy", hp, None, seen, progress=0.25), [0.2, 0.6, 0.2])  # ε = 0.6
    close(frequencies("epsilon_greedy", hp, None, seen, progress=1.0), [0.1, 0.8, 0.1])


def test_each_environment_asks_one_member_of_the_ensemble():
    """Of four members two prefer action 1, one action 0, one action 2."""
    rewards = np.array([[0, 5, 1], [9, 0, 1], [0, 1, 0], [0, 1, 2]])
    close(frequencies("ensemble", HParams(), None, Predictions(rewards, np.ones((4, 2)))), [0.25, 0.5, 0.25])


def test_sampled_values_have_the_posteriors_spread():
    """Two actions: the first is better with probability Φ(difference / √(sum of variances))."""
    covariance = np.array([[[0.5, 0.1], [0.1, 0.3]], [[0.2, 0.0], [0.0, 0.4]]])
    phi, mean, noise = np.array([1.0, -2.0]), np.array([0.3, 0.0]), 0.7
    variances = noise**2 * np.einsum("i,aij,j->a", phi, covariance, phi)
    better = scipy.stats.norm.cdf(0.3 / np.sqrt(variances.sum()))
    state = neural_bandit.Learner((), (), jnp.array(covariance, jnp.float32))
    found = frequencies("bayesian", HParams(noise_scale=noise), state, Predictions(mean[None], phi[None]))
    close(found, [better, 1 - better])


def delta(before, after):
    """How far each network's parameters moved, at most: [E]."""
    moved = jax.tree.map(lambda x, y: np.abs(x - y).reshape(len(x), -1).max(1), before.learner.params, after.learner.params)
    return np.max(jax.tree.leaves(moved), 0)


def stored_masks(replay):
    """The masks of all pulls in replay, by reward."""
    found = ring.take(replay.data, uniform.draw_slots(replay, jax.random.key(0), 100))
    return {float(r): np.asarray(m) for r, m in zip(found.reward, found.mask, strict=True)}


def test_members_learn_from_their_own_half_of_the_pulls():
    """One pull in replay: a member moves exactly if the mask stored with it says so; masks are fair coins, tossed once."""
    agent, state = made(exploration="ensemble", num_envs=1, ensemble_size=64)
    after, _ = agent.learn(HParams(), state, rows(1, 1, valid_share=1.1), START, jax.random.key(3))
    ((reward, mask),) = stored_masks(after.experience).items()
    np.testing.assert_array_equal(delta(state, after) > 0, mask)
    assert 32 - 5 * 4 <= mask.sum() <= 32 + 5 * 4
    again, _ = agent.learn(HParams(), after, rows(1, 1, 1, valid_share=1.1), START, jax.random.key(4))
    masks = stored_masks(again.experience)
    np.testing.assert_array_equal(masks.pop(reward), mask)
    ((_, other),) = masks.items()
    assert (other != mask).any()


def test_a_gradient_step_by_hand():
    """A linear network and one stored pull: Adam's first step is learning_rate against the gradient's sign.

    d/dW ½ (x W_a + b_a - r)² = x · error in the pulled action's column, 0 elsewhere.
    """
    agent, state = made(hidden_sizes=(), num_envs=1)
    pull = rows(1, 1, valid_share=1.1)
    after, metrics = agent.learn(HParams(learning_rate=0.01), state, pull, START, jax.random.key(0))
    head = {k: np.asarray(v[0]) for k, v in state.learner.params["params"]["Dense_0"].items()}
    x, a, r = np.asarray(pull.steps.obs[0, 0]), int(pull.steps.action[0, 0]), float(pull.steps.reward[0, 0])
    error = (x @ head["kernel"] + head["bias"])[a] - r
    moved = {k: np.asarray(v[0]) - head[k] for k, v in after.learner.params["params"]["Dense_0"].items()}
    np.testing.assert_allclose(moved["kernel"], -0.01 * np.outer(np.sign(x * error), np.eye(A)[a]), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(moved["bias"], -0.01 * np.sign(error) * np.eye(A)[a], rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(metrics["loss"].value, error**2 / 2, rtol=1e-4)


@pytest.mark.parametrize("exploration", ["epsilon_greedy", "ensemble", "bayesian"])
def test_invalid_rows_teach_nothing(exploration):
    agent, state = made(exploration=exploration)
    after, metrics = agent.learn(HParams(), state, rows(1, 2, valid_share=0.0), START, jax.random.key(0))
    assert delta(state, after).max() == 0 and metrics["reward"].count == 0
    for x, y in zip(jax.tree.leaves(state.learner.covariance), jax.tree.leaves(after.learner.covariance), strict=True):
        np.testing.assert_array_equal(x, y)


def test_nothing_is_descended_before_learning_starts():
    agent, state = made(learning_starts=10)
    for env_steps, moves in [(9, False), (10, True)]:
        clock = Clock(jnp.int32(env_steps), jnp.float32(0))
        after, metrics = agent.learn(HParams(), state, rows(1, 2, valid_share=1.1), clock, jax.random.key(0))
        assert (delta(state, after).max() > 0) == moves == bool(metrics["loss"].count)


REWARDS = np.array([[0.2, 0.8, 0.5], [0.9, 0.1, 0.4]])  # by context and action


def two_contexts():
    """A context of two, seen as a vector; every step ends the episode and pays REWARDS[context, action]."""

    def reset(key, params):
        context = jax.random.randint(key, (), 0, 2)
        return context, jax.nn.one_hot(context, 2)

    def step(key, context, action, params):
        reward = jnp.array(REWARDS, jnp.float32)[context, action]
        return context, EnvStep(jax.nn.one_hot(context, 2), reward, jnp.bool_(True), jnp.bool_(False))

    return Env(EnvSpec("TwoContexts", Box((2,), 0.0, 1.0), Discrete(3)), {}, reset, step)


@pytest.mark.parametrize("exploration", ["epsilon_greedy", "ensemble", "bayesian"])
def test_every_exploration_finds_the_best_action_of_each_context(exploration):
    config = {"exploration": exploration, "hidden_sizes": (16,), "learning_starts": 50, "ensemble_size": 5}
    trainer = jaxrl.make_trainer(
        "neural_bandit", two_contexts(), total_steps=10_000, config=config, hparams={"learning_rate": 3e-3}
    )
    state, metrics = jax.jit(trainer.train)(jax.random.key(0))
    values = np.asarray(trainer.agent.values(trainer.hparams, state.agent, jnp.eye(2)))
    np.testing.assert_array_equal(values.argmax(1), [1, 0])
    np.testing.assert_allclose(values.max(1), [0.8, 0.9], atol=0.02)
    if exploration == "epsilon_greedy":  # the only one that goes on pulling every action
        np.testing.assert_allclose(values, REWARDS, atol=0.03)
    else:
        assert metrics["reward"][-1] > 0.84  # and so these two pay the mean of the best, 0.85, in training


def test_digits_by_the_preset():
    """Trained on 1,437 images by reward alone, it names 360 others; the best it was told is 1 or 0."""
    trainer = jaxrl.make_trainer("neural_bandit", "DigitsBandit", env_kwargs={"split": "train"})
    test = jaxrl.make_trainer("neural_bandit", "DigitsBandit", env_kwargs={"split": "test"})
    assert trainer.total_steps == 20_480  # 20,000 rounded up to whole iterations
    state, metrics = jax.jit(trainer.train)(jax.random.key(100))
    assert float(jaxrl.evaluate(test, state, jax.random.key(1), 1000).returns.mean()) >= 0.93
    np.testing.assert_allclose(metrics["regret"], 1 - metrics["reward"], atol=1e-5)
    assert metrics["optimal"][-1] > 0.93 > 0.2 > metrics["optimal"][0]
