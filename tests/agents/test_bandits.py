"""agents/: epsilon_greedy, ucb, thompson, gradient_bandit: learning against NumPy loops, choices by hand and by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import jaxrl
from jaxrl.agents import epsilon_greedy, gradient_bandit, thompson, ucb
from jaxrl.agents.parts.bandit import Arms
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.experiment import presets

T, N, A = 40, 5, 3
SPEC = EnvSpec("Bandit", Discrete(1), Discrete(A))
MODULES = [epsilon_greedy, ucb, thompson, gradient_bandit]
START = Clock(jnp.int32(0), jnp.float32(0))
DRAWS = 20_000


class Pulls:
    """Random pulls [T, N], some of them invalid; `of(arm)` are one arm's valid rewards."""

    def __init__(self, low=-1.0, high=2.0):
        rng = np.random.default_rng(0)
        self.action = rng.integers(0, A, (T, N))
        self.reward = rng.uniform(low, high, (T, N)).astype(np.float32)
        self.valid = rng.random((T, N)) < 0.8
        self.probs = rng.dirichlet(np.ones(A), (T, N)).astype(np.float32)

    def in_order(self):
        return [(self.action[i, j], self.reward[i, j], self.probs[i, j]) for i, j in np.argwhere(self.valid)]

    def of(self, arm):
        return self.reward[self.valid & (self.action == arm)].astype(np.float64)


def rollout(action, reward, valid=True, extras=()):
    """A Rollout [T, N] of pulls."""
    action, no = jnp.array(action, jnp.int32), jnp.zeros(np.shape(action), bool)
    zero = jnp.zeros(action.shape, jnp.int32)
    valid = jnp.broadcast_to(jnp.asarray(valid), action.shape)
    return Rollout(Transition(zero, no, action, jnp.array(reward, jnp.float32), no, no, zero, extras, valid), ())


def learnt(module, pulls, hp, config=None, extras=()):
    agent = module.make(SPEC, config or module.Config())
    state = agent.init(jax.random.key(0), hp)
    steps = rollout(pulls.action, pulls.reward, pulls.valid, extras)
    return jax.jit(agent.learn)(hp, state, steps, START, jax.random.key(0))


def frequencies(module, hp, state, progress=0.0, config=None):
    """How often each action is chosen in parallel environments."""
    spec = EnvSpec("Bandit", Discrete(1), Discrete(jax.tree.leaves(state)[0].shape[0]))
    agent = module.make(spec, config or module.Config())
    obs, first = jnp.zeros(DRAWS, jnp.int32), jnp.zeros(DRAWS, bool)
    clock = Clock(jnp.int32(0), jnp.float32(progress))
    action, memory, _ = jax.jit(agent.act)(hp, state, (), obs, first, clock, jax.random.key(1))
    assert (action.dtype, memory) == (jnp.int32, ())
    return np.bincount(action, minlength=spec.action_space.n) / DRAWS


def close(found, expected):
    """Within five standard deviations of a frequency."""
    expected = np.array(expected)
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / DRAWS)).all(), (found, expected)


# ε-greedy


@pytest.mark.parametrize(("alpha", "decay"), [(1.0, 1.0), (0.1, 0.0), (0.8, 0.6)])
def test_epsilon_greedy_learns_as_a_loop(alpha, decay):
    pulls, q, n = Pulls(), np.full(A, 5.0), np.zeros(A)
    for a, r, _ in pulls.in_order():
        n[a] += 1
        q[a] += alpha * n[a] ** -decay * (r - q[a])
    hp = epsilon_greedy.HParams(learning_rate=alpha, learning_rate_decay=decay, initial_value=5.0)
    state, metrics = learnt(epsilon_greedy, pulls, hp)
    np.testing.assert_allclose(state.q, q, rtol=1e-5)
    np.testing.assert_array_equal(state.pulls, n)
    np.testing.assert_allclose(metrics["reward"].value, pulls.reward[pulls.valid].mean(), rtol=1e-5)


@pytest.mark.parametrize("module", [epsilon_greedy, ucb])
def test_by_default_values_are_sample_averages(module):
    pulls = Pulls()
    state, _ = learnt(module, pulls, module.HParams())
    np.testing.assert_allclose(state.q, [pulls.of(a).mean() for a in range(A)], rtol=1e-5)
    np.testing.assert_array_equal(state.pulls, [len(pulls.of(a)) for a in range(A)])


def test_epsilon_greedy_shares_among_the_best():
    """ε = 0.4 of four arms is 0.1 each; the two best share the remaining 0.6."""
    state = Arms(jnp.array([1.0, 3.0, 3.0, 0.0]), jnp.ones(4, jnp.int32))
    hp = epsilon_greedy.HParams(epsilon_start=0.4, epsilon_end=0.4)
    close(frequencies(epsilon_greedy, hp, state), [0.1, 0.4, 0.4, 0.1])
    hp = epsilon_greedy.HParams(epsilon_start=0.0, epsilon_end=0.0)
    close(frequencies(epsilon_greedy, hp, state), [0.0, 0.5, 0.5, 0.0])


@pytest.mark.parametrize(("progress", "epsilon"), [(0.0, 0.8), (0.1, 0.5), (0.2, 0.2), (1.0, 0.2)])
def test_epsilon_falls_linearly(progress, epsilon):
    state = Arms(jnp.array([0.0, 1.0]), jnp.ones(2, jnp.int32))
    hp = epsilon_greedy.HParams(epsilon_start=0.8, epsilon_end=0.2, epsilon_fraction=0.2)
    close(frequencies(epsilon_greedy, hp, state, progress), [epsilon / 2, 1 - epsilon / 2])


# UCB


@pytest.mark.parametrize(
    ("confidence", "bounds"),
    [
        (2.0, [1.5531, 1.8893, 3.4302]),  # t = 16, ln 16 = 2.7726: 0.5 + 2 √(2.7726 / 10), 0.4 + 2 √(… / 5), 0.1 + 2 √(…)
        (0.1, [0.5527, 0.4745, 0.2665]),
        (0.0, [0.5, 0.4, 0.1]),
    ],
)
def test_ucb_by_hand(confidence, bounds):
    state = Arms(jnp.array([0.5, 0.4, 0.1]), jnp.array([10, 5, 1]))
    np.testing.assert_allclose(ucb.upper_bounds(state, confidence), bounds, atol=1e-4)
    close(frequencies(ucb, ucb.HParams(confidence=confidence), state), np.eye(3)[np.argmax(bounds)])


def test_ucb_pulls_what_was_never_pulled_first():
    state = Arms(jnp.array([9.0, 0.0, 0.0, 0.0]), jnp.array([1000, 0, 3, 0]))
    close(frequencies(ucb, ucb.HParams(), state), [0, 0.5, 0, 0.5])
    close(frequencies(ucb, ucb.HParams(), Arms(jnp.zeros(4), jnp.zeros(4, jnp.int32))), [0.25] * 4)


# Thompson sampling

BERNOULLI = thompson.Config(likelihood="bernoulli")


def test_normal_posterior():
    """The posterior of all pulls at once: precisions add, means are weighed by them (Gelman et al., section 2.5)."""
    pulls, m, s, noise = Pulls(), 0.7, 1.5, 0.8
    state, _ = learnt(thompson, pulls, thompson.HParams(prior_mean=m, prior_scale=s, noise_scale=noise))
    for a in range(A):
        r = pulls.of(a)
        precision = 1 / s**2 + len(r) / noise**2
        np.testing.assert_allclose(state.variance[a], 1 / precision, rtol=1e-5)
        np.testing.assert_allclose(state.mean[a], (m / s**2 + r.sum() / noise**2) / precision, rtol=1e-5)


def test_beta_posterior():
    """Rewards of -1 … 2 count as the nearer of 0 and 1 outside these."""
    pulls = Pulls()
    state, _ = learnt(thompson, pulls, thompson.HParams(prior_successes=2.0, prior_failures=3.0), BERNOULLI)
    for a in range(A):
        r = np.clip(pulls.of(a), 0, 1)
        np.testing.assert_allclose(state.successes[a], 2 + r.sum(), rtol=1e-5)
        np.testing.assert_allclose(state.failures[a], 3 + (1 - r).sum(), rtol=1e-5)
        np.testing.assert_allclose(state.mean[a], scipy.stats.beta(2 + r.sum(), 3 + (1 - r).sum()).mean(), rtol=1e-5)


def test_draws_are_from_the_posterior():
    """Kolmogorov-Smirnov against scipy's distributions, 4,000 draws an arm."""
    normal = thompson.Normal(jnp.array([0.0, -2.0]), jnp.array([1.0, 0.09]))
    beta = thompson.Beta(jnp.array([1.0, 30.0]), jnp.array([1.0, 4.5]))
    oracles = [
        (normal, [scipy.stats.norm(0, 1), scipy.stats.norm(-2, 0.3)]),
        (beta, [scipy.stats.beta(1, 1), scipy.stats.beta(30, 4.5)]),
    ]
    for posterior, expected in oracles:
        draws = np.asarray(jax.jit(jax.vmap(posterior.sample))(jax.random.split(jax.random.key(0), 4000)))
        for column, distribution in zip(draws.T, expected, strict=True):
            assert scipy.stats.kstest(column, distribution.cdf).pvalue > 1e-3
        assert abs(np.corrcoef(draws.T)[0, 1]) < 5 / np.sqrt(4000)


def test_an_arm_is_pulled_as_often_as_it_is_likely_the_best():
    normal = thompson.Normal(jnp.array([0.3, 0.0]), jnp.array([0.5, 0.2]))
    better = scipy.stats.norm.cdf(0.3 / np.sqrt(0.7))
    close(frequencies(thompson, thompson.HParams(), normal), [better, 1 - better])
    x, y = scipy.stats.beta(4, 6), scipy.stats.beta(2, 2)
    better = scipy.integrate.quad(lambda u: x.pdf(u) * y.cdf(u), 0, 1)[0]
    beta = thompson.Beta(jnp.array([4.0, 2.0]), jnp.array([6.0, 2.0]))
    close(frequencies(thompson, thompson.HParams(), beta, config=BERNOULLI), [better, 1 - better])


# Gradient bandit


@pytest.mark.parametrize("baseline", [True, False])
def test_gradient_bandit_learns_as_a_loop(baseline):
    """Equation 2.12; the baseline is the mean of the rewards before, the first reward itself at the first pull."""
    pulls, alpha = Pulls(), 0.3
    h, seen = np.zeros(A), []
    for a, r, pi in pulls.in_order():
        reference = (np.mean(seen) if seen else r) if baseline else 0.0
        h += alpha * (r - reference) * (np.eye(A)[a] - pi)
        seen.append(r)
    config, hp = gradient_bandit.Config(baseline=baseline), gradient_bandit.HParams(learning_rate=alpha)
    state, _ = learnt(gradient_bandit, pulls, hp, config, jnp.array(pulls.probs))
    np.testing.assert_allclose(state.preferences, h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.mean_reward, np.mean(seen), rtol=1e-5)
    assert state.pulls.sum() == len(seen)


def test_gradient_bandit_draws_from_the_softmax_and_hands_it_on():
    h = np.array([0.0, 1.0, -0.5])
    state = gradient_bandit.State(jnp.array(h, jnp.float32), jnp.float32(0), jnp.zeros(3, jnp.int32))
    pi = np.exp(h) / np.exp(h).sum()
    close(frequencies(gradient_bandit, gradient_bandit.HParams(), state), pi)
    agent = gradient_bandit.make(SPEC, gradient_bandit.Config())
    zeros = jnp.zeros(2, jnp.int32)
    _, _, extras = agent.act(gradient_bandit.HParams(), state, (), zeros, zeros > 0, START, jax.random.key(0))
    np.testing.assert_allclose(extras, [pi, pi], rtol=1e-6)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_expected_update_is_the_gradient_of_the_expected_reward(baseline):
    """E[ΔH] / α = ∇_H Σ_a π(a) q(a), by finite differences in NumPy; two environments pull at once, so twice that.

    Pulls are enumerated, each pair with its probability; the baseline stands at 1.7 before, and moves between the two.
    """
    q, h, eps = np.array([1.0, -2.0, 4.0]), np.array([0.2, -0.4, 0.1]), 1e-5

    def softmax(h):
        return np.exp(h) / np.exp(h).sum()

    def expected_reward(h):
        return softmax(h) @ q

    gradient = [(expected_reward(h + eps * e) - expected_reward(h - eps * e)) / (2 * eps) for e in np.eye(3)]
    pi, alpha = softmax(h), 0.01
    agent = gradient_bandit.make(SPEC, gradient_bandit.Config(baseline=baseline))
    state = gradient_bandit.State(jnp.array(h, jnp.float32), jnp.float32(1.7), jnp.array([3, 0, 1]))
    pairs = np.array([(a, b) for a in range(3) for b in range(3)])
    extras = jnp.array(np.broadcast_to(pi, (1, 2, 3)), jnp.float32)

    def moved(pair, reward):
        hp = gradient_bandit.HParams(learning_rate=alpha)
        steps = rollout(jnp.zeros((1, 2), jnp.int32), np.zeros((1, 2)), True, extras)
        steps = steps._replace(steps=steps.steps._replace(action=pair[None], reward=reward[None]))
        return agent.learn(hp, state, steps, START, jax.random.key(0))[0].preferences

    after = np.asarray(jax.jit(jax.vmap(moved))(jnp.array(pairs, jnp.int32), jnp.array(q[pairs], jnp.float32)), np.float64)
    update = (pi[pairs[:, 0]] * pi[pairs[:, 1]]) @ (after - h)
    np.testing.assert_allclose(update / alpha, 2 * np.array(gradient), atol=1e-3)


# All of them


@pytest.mark.parametrize("module", MODULES)
def test_invalid_rows_change_nothing(module):
    pulls = Pulls()
    pulls.valid[:] = False
    agent = module.make(SPEC, module.Config())
    before = agent.init(jax.random.key(0), module.HParams())
    after, metrics = learnt(module, pulls, module.HParams(), extras=jnp.array(pulls.probs))
    for x, y in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(x, y)
    assert metrics["reward"].count == 0


STATES = {
    epsilon_greedy: Arms(jnp.array([1.0, 2.0, 0.0]), jnp.array([1, 1, 0])),
    ucb: Arms(jnp.array([1.0, 2.0, 0.0]), jnp.array([1, 100, 0])),
    thompson: thompson.Normal(jnp.array([1.0, 2.0, 0.0]), jnp.array([100.0, 0.01, 100.0])),
    gradient_bandit: gradient_bandit.State(jnp.array([1.0, 2.0, 0.0]), jnp.float32(0), jnp.zeros(3, jnp.int32)),
}


@pytest.mark.parametrize("module", MODULES)
def test_greedy_takes_the_best_known_action(module):
    """Without bonus, draw or chance; `values` are those estimates, which a gradient bandit has not."""
    agent = module.make(SPEC, module.Config())
    obs = jnp.zeros(4, jnp.int32)
    action, _ = agent.greedy(module.HParams(), STATES[module], (), obs, obs > 0, jax.random.key(0))
    np.testing.assert_array_equal(action, [1, 1, 1, 1])
    assert action.dtype == jnp.int32
    if module is gradient_bandit:
        assert agent.values is None
    else:
        np.testing.assert_array_equal(agent.values(module.HParams(), STATES[module], obs), [[1, 2, 0]] * 4)


@pytest.mark.parametrize("module", MODULES)
def test_continuous_actions_are_refused(module):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(InputError, match=f"agent '{name}' needs discrete actions"):
        module.make(EnvSpec("Pull", Discrete(1), Box((2,))), module.Config())


@pytest.mark.parametrize("module", MODULES)
def test_presets_fit_their_environments(module):
    name = module.__name__.rpartition(".")[2]
    for env in ("GaussianBandit", "BernoulliBandit"):
        assert env in presets.presets(name)
        assert jaxrl.make_trainer(name, env).total_steps == 10_000
