"""envs/: the three bandits: arms, rewards, walks and regret by hand; labels against scikit-learn."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.vectorize import vectorize
from jaxrl.envs import bernoulli_bandit, digits_bandit, gaussian_bandit
from jaxrl.envs.parts.bandit import ARMS, State
from jaxrl.experiment import registry

KEY = jax.random.key(0)
ARMS_OF_3 = jax.random.fold_in(jax.random.key(3), ARMS)
both = pytest.mark.parametrize("module", [gaussian_bandit, bernoulli_bandit])


def changed(env, **values):
    return env.params._replace(**{k: jnp.asarray(v, getattr(env.params, k).dtype) for k, v in values.items()})


def many_steps(env, params, means, action, count):
    """`count` independent steps from one state: EnvStep and states [count]."""
    state = State(jnp.array(means, jnp.float32), jnp.int32(4), jnp.float32(1.0))
    keys = jax.random.split(KEY, count)
    return jax.device_get(jax.jit(jax.vmap(env.step, (0, None, None, None)))(keys, state, jnp.int32(action), params))


def test_gaussian_arms_follow_their_formula():
    env = gaussian_bandit.make(num_arms=5)
    z = np.asarray(jax.random.normal(ARMS_OF_3, (5,)))
    expected = 2.0 + 0.5 * z + 0.25 * (z == z.max())
    state, obs = env.reset(KEY, changed(env, problem=3, base=2.0, spread=0.5, gap=0.25))
    np.testing.assert_allclose(state.means, expected, rtol=1e-6)
    assert (obs, state.time, state.regret) == (0, 0, 0)


def test_bernoulli_arms_follow_their_formula_and_stay_probabilities():
    env = bernoulli_bandit.make(num_arms=5)
    z = np.asarray(jax.random.uniform(ARMS_OF_3, (5,))) - 0.5
    for base, spread, gap in [(0.5, 0.4, 0.2), (0.5, 1.0, 0.8), (0.1, 1.0, 0.0)]:
        expected = np.clip(base + spread * z + gap * (z == z.max()), 0, 1)
        state, _ = env.reset(KEY, changed(env, problem=3, base=base, spread=spread, gap=gap))
        np.testing.assert_allclose(state.means, expected, atol=1e-6)


@both
def test_a_problem_is_the_same_at_every_reset_and_differs_from_others(module):
    env = module.make()
    problems = jnp.arange(20, dtype=jnp.int32)
    params = jax.vmap(lambda p: env.params._replace(problem=p))(problems)
    first = jax.vmap(env.reset, (None, 0))(KEY, params)[0].means
    second = jax.vmap(env.reset, (None, 0))(jax.random.key(1), params)[0].means
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(np.asarray(first), axis=0)) == 20


def test_problems_are_the_testbed_of_the_book():
    """Means N(0, 1); the best of ten is 1.53875 on average (Harter 1961), the book's "about 1.54"; Bernoulli: 10/11."""
    normal, uniform = (
        np.asarray(
            jax.jit(jax.vmap(lambda p, e=env: e.reset(KEY, e.params._replace(problem=p))[0].means))(
                jnp.arange(4000, dtype=jnp.int32)
            )
        )
        for env in (gaussian_bandit.make(), bernoulli_bandit.make())
    )
    np.testing.assert_allclose([normal.mean(), normal.std()], [0, 1], atol=0.02)  # 5 × 1 / √40000 = 0.025
    assert abs(normal.max(1).mean() - 1.53875) < 0.04  # its standard deviation is 0.586 / √4000 = 0.009
    assert abs(uniform.max(1).mean() - 10 / 11) < 0.006  # 0.083 / √4000 = 0.0013


@pytest.mark.parametrize(("action", "regret", "total", "optimal"), [(0, 0.4, 1.4, 0), (1, 0.0, 1.0, 1), (2, 0.2, 1.2, 0)])
@both
def test_regret_by_hand(module, action, regret, total, optimal):
    """Means 0.1, 0.5, 0.3; the episode's regret so far is 1."""
    env = module.make(num_arms=3)
    _, out = many_steps(env, env.params, [0.1, 0.5, 0.3], action, 3)
    np.testing.assert_allclose(out.metrics["regret"], regret, atol=1e-6)
    np.testing.assert_allclose(out.metrics["cumulative_regret"], total, atol=1e-6)
    np.testing.assert_array_equal(out.metrics["optimal"], optimal)


def test_rewards_have_the_arms_moments():
    env = gaussian_bandit.make(num_arms=2)
    reward = many_steps(env, changed(env, scale=0.5), [-1.0, 2.0], 1, 10_000)[1].reward
    np.testing.assert_allclose([reward.mean(), reward.std()], [2.0, 0.5], atol=0.025)
    env = bernoulli_bandit.make(num_arms=2)
    reward = many_steps(env, env.params, [0.9, 0.3], 1, 10_000)[1].reward
    assert set(np.unique(reward)) == {0.0, 1.0} and abs(reward.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 10_000)


def test_drift_is_a_random_walk():
    """After 25 steps each mean has moved by a normal of variance 25 · drift²."""
    env = gaussian_bandit.make(num_arms=4)
    params = changed(env, drift=0.2)

    def walk(key):
        start = State(jnp.arange(4.0), jnp.int32(0), jnp.float32(0))
        return jax.lax.scan(lambda s, k: (env.step(k, s, 0, params)[0], None), start, jax.random.split(key, 25))[0].means

    moved = np.asarray(jax.jit(jax.vmap(walk))(jax.random.split(KEY, 2000))) - np.arange(4.0)
    np.testing.assert_allclose(moved.mean(0), 0, atol=5 / np.sqrt(2000))
    np.testing.assert_allclose(moved.var(0), 25 * 0.2**2, rtol=5 * np.sqrt(2 / 2000))
    np.testing.assert_allclose(np.corrcoef(moved.T) - np.eye(4), 0, atol=5 / np.sqrt(2000))


@both
def test_without_drift_means_stay(module):
    env = module.make(num_arms=3)
    state, _ = many_steps(env, env.params, [0.1, 0.5, 0.3], 0, 5)
    np.testing.assert_array_equal(state.means, np.tile(np.float32([0.1, 0.5, 0.3]), (5, 1)))


def test_a_probability_drifts_no_further_than_0_and_1():
    env = bernoulli_bandit.make(num_arms=3)
    state, _ = many_steps(env, changed(env, drift=3.0), [0.1, 0.5, 0.9], 0, 200)
    assert state.means.min() == 0 and state.means.max() == 1


@both
def test_regret_adds_up_within_an_episode_and_starts_anew(module):
    limit, steps, n = 30, 100, 3
    env = module.make()
    vec = vectorize(env, n, n * steps)
    params = changed(env, max_steps_in_episode=limit, problem=5)
    actions = jnp.array(np.random.default_rng(0).integers(0, 10, (steps, n)), jnp.int32)

    def run(key):
        state, _ = vec.init(key, params)
        keys = jax.random.split(key, (steps, n))

        def one(carry, xs):
            state, _, pool, out = vec.step(xs[0], *carry, xs[1], params)
            return (state, pool), out

        return jax.lax.scan(one, (state, vec.prepare(key, params)), (keys, actions))[1]

    out = jax.jit(run)(KEY)
    means = np.asarray(env.reset(KEY, params)[0].means)
    regret = means.max() - means[np.asarray(actions)]
    expected = np.concatenate([np.cumsum(regret[i : i + limit], 0) for i in range(0, steps, limit)])
    np.testing.assert_allclose(out.metrics["cumulative_regret"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out.truncated[:, 0], np.arange(1, steps + 1) % limit == 0)
    assert not out.terminated.any()


@both
def test_a_single_arm_is_refused(module):
    with pytest.raises(InputError, match="num_arms = 1 is out of range: must be >= 2"):
        module.make(num_arms=1)


# Digits


def sklearn_digits():
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {image.tobytes(): label for image, label in zip(digits.images, digits.target, strict=True)}


def test_the_reward_is_the_label():
    """Against scikit-learn's own pairs of image and label."""
    labels = sklearn_digits()
    env = digits_bandit.make()
    states, obs = jax.vmap(env.reset, (0, None))(jax.random.split(KEY, 300), env.params)
    shown = [labels[(np.asarray(x, np.float64)[..., 0] * 16).tobytes()] for x in obs]
    assert set(shown) == set(range(10))
    step = jax.vmap(jax.vmap(env.step, (None, None, 0, None)), (None, 0, None, None))
    out = jax.jit(step)(KEY, states, jnp.arange(10), env.params)[1]
    right = np.array(shown)[:, None] == np.arange(10)
    np.testing.assert_array_equal(out.reward, right)
    np.testing.assert_array_equal(out.metrics["optimal"], right)
    np.testing.assert_array_equal(out.metrics["regret"], ~right)
    assert out.terminated.all() and not out.truncated.any()


def test_splits_are_fixed_apart_and_balanced():
    every, train, test = (digits_bandit.load(split) for split in ("all", "train", "test"))
    assert [len(labels) for _, labels in (every, train, test)] == [1797, 1437, 360]
    rows = [{image.tobytes() for image in images} for images, _ in (every, train, test)]
    assert rows[1] | rows[2] == rows[0] and not rows[1] & rows[2]
    share = np.bincount(test[1]) / np.bincount(every[1])
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    labels = sklearn_digits()
    for images, given in (train, test):
        np.testing.assert_array_equal([labels[x[..., 0].astype(float).tobytes()] for x in images], given)


@pytest.mark.parametrize(("flip", "regret_right", "regret_wrong"), [(0.25, 0, 0.5), (0.75, 0.5, 0), (0.5, 0, 0), (1, 1, 0)])
def test_flipped_rewards(flip, regret_right, regret_wrong):
    """The right name pays with probability 1 - flip, a wrong one with flip; regret is against the better."""
    env = digits_bandit.make()
    params = changed(env, flip=flip)
    label = digits_bandit.load()[1][7]
    step = jax.jit(jax.vmap(env.step, (0, None, None, None)))
    for action, pays, regret in ((label, 1 - flip, regret_right), ((label + 1) % 10, flip, regret_wrong)):
        out = step(jax.random.split(KEY, 4000), digits_bandit.State(jnp.int32(7)), jnp.int32(action), params)[1]
        assert abs(out.reward.mean() - pays) <= 5 * np.sqrt(pays * (1 - pays) / 4000)
        np.testing.assert_allclose(out.metrics["regret"], regret)
        np.testing.assert_array_equal(out.metrics["optimal"], regret == 0)


@pytest.mark.parametrize("kwargs", [{}, {"split": "test"}])
def test_without_the_extra_the_error_names_it(monkeypatch, kwargs):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)  # what an import of a missing package meets
    digits_bandit.load.cache_clear()
    with pytest.raises(InputError) as error:
        registry.find_env("DigitsBandit", kwargs)
    assert "DigitsBandit needs the extra: pip install 'jaxrl[digits]'" in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="split = 'tset' is not one of all, train, test; nearest: test"):
        digits_bandit.make(split="tset")
