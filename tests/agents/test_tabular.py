"""agents/_tabular.py and the agents on it: each update against a NumPy loop over its equation, policies by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents import double_q_learning, expected_sarsa, n_step_sarsa, q_learning, sarsa
from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.experiment import presets

AGENTS = [q_learning, double_q_learning, expected_sarsa, sarsa, n_step_sarsa]
STATES, ACTIONS, T, N, CALLS = 4, 3, 6, 3, 4
GAMMA, ALPHA, DECAY, TEMPERATURE = 0.9, 0.5, 0.7, 0.6
SPEC = EnvSpec("MDP", Discrete(STATES), Discrete(ACTIONS))
CLOCK = Clock(jnp.int32(0), jnp.float32(0.5))
each_agent = pytest.mark.parametrize("module", AGENTS, ids=lambda m: m.__name__.rpartition(".")[2])


class Rows(NamedTuple):
    """Random transitions [CALLS * T, N], as Transition names them: ends and invalid rows anywhere, one on the other."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: np.ndarray
    valid: np.ndarray


def random_rows(seed=0):
    rng = np.random.default_rng(seed)
    shape = (CALLS * T, N)
    obs, next_obs = rng.integers(0, STATES, (2, *shape))
    ends = rng.random((3, *shape)) < np.array([0.15, 0.15, 0.85])[:, None, None]
    action, reward = rng.integers(0, ACTIONS, shape), rng.normal(size=shape).astype(np.float32)
    return Rows(obs, action, reward, ends[0], ends[1], next_obs, ends[2])


def transitions(rows):
    """Rows as the loop hands them over."""
    x = Rows(*map(jnp.asarray, rows))
    whole = [jnp.int32(x.obs), jnp.zeros_like(x.valid), jnp.int32(x.action), x.reward, x.terminated, x.truncated]
    return Transition(*whole, jnp.int32(x.next_obs), (), x.valid)


def settings(module, **changes):
    values = {"learning_rate": ALPHA, "learning_rate_decay": DECAY, "gamma": GAMMA, "temperature": TEMPERATURE}
    return module.HParams(**(values | {"epsilon_start": 0.8, "epsilon_end": 0.2, "epsilon_fraction": 1.0} | changes))


def learned(module, rows, exploration="epsilon_greedy", length=T, **config):
    """The state after all rows, `length` of them a call, the clock's progress rising from call to call."""
    num_envs = rows.obs.shape[1]
    agent = module.make(SPEC, module.Config(num_envs=num_envs, exploration=exploration, **config))
    hp = settings(module, initial_value=0.5)
    learn, state = jax.jit(agent.learn), agent.init(jax.random.key(0), hp)
    for start in range(0, len(rows.obs), length):
        part = transitions(Rows(*(x[start : start + length] for x in rows)))
        clock = Clock(jnp.int32(0), jnp.float32(progress(start)))
        state, _ = learn(hp, state, Rollout(part, ()), clock, jax.random.key(start))
    return state


def progress(row):
    """The clock's progress in the call that brings a row, whatever part of T it is long; ε is 0.8 - 0.6 · progress."""
    return (row // T) / CALLS


def expectation(q, exploration, row):
    """Σ_a π(a) Q(a) under the behaviour policy, in float64."""
    if exploration == "boltzmann":
        weights = np.exp((q - q.max()) / TEMPERATURE)
        return (weights / weights.sum()) @ q
    epsilon = 0.8 - 0.6 * progress(row)
    return epsilon * q.mean() + (1 - epsilon) * q.max()


def replay(rows, target_of, delay=0):
    """A loop over transitions, time first, environments in turn: tables q, visits.

    target_of: (q, t, j) -> what the transition of time t and environment j moves to. delay: rows that come after it before
    it is learnt from.
    """
    q, visits = np.full((STATES, ACTIONS), 0.5), np.zeros((STATES, ACTIONS), int)
    for t in range(len(rows.obs) - delay):
        for j in range(rows.obs.shape[1]):
            if rows.valid[t, j]:
                at = rows.obs[t, j], rows.action[t, j]
                visits[at] += 1
                q[at] += ALPHA * visits[at] ** -DECAY * (target_of(q, t, j) - q[at])
    return q, visits


def assert_same(state, expected):
    np.testing.assert_allclose(table_of(state).q, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(table_of(state).visits, expected[1])


def table_of(state):
    """What is learnt, without the steps that n-step agents keep beside it."""
    return getattr(state, "learner", state)


@pytest.mark.parametrize("exploration", ["epsilon_greedy", "boltzmann"])
def test_q_learning_and_expected_sarsa_equal_a_loop(exploration):
    rows = random_rows()

    def greedy(q, t, j):
        return rows.reward[t, j] + GAMMA * (not rows.terminated[t, j]) * q[rows.next_obs[t, j]].max()

    def expected(q, t, j):
        following = expectation(q[rows.next_obs[t, j]], exploration, t)
        return rows.reward[t, j] + GAMMA * (not rows.terminated[t, j]) * following

    assert_same(learned(q_learning, rows, exploration), replay(rows, greedy))
    assert_same(learned(expected_sarsa, rows, exploration), replay(rows, expected))


def sarsa_target(rows, n, exploration):
    """The book's return: n rewards, then the executed pair's value, unless the episode ends or is cut before."""

    def target(q, t, j):
        g = 0.0
        for k in range(n):
            g += GAMMA**k * rows.reward[t + k, j]
            if rows.terminated[t + k, j]:
                return g
            if rows.truncated[t + k, j] or not rows.valid[t + k + 1, j]:
                return g + GAMMA ** (k + 1) * expectation(q[rows.next_obs[t + k, j]], exploration, t + n)
        return g + GAMMA**n * q[rows.obs[t + n, j], rows.action[t + n, j]]

    return target


@pytest.mark.parametrize("length", [1, 2, T])  # shorter than n = 3, so that windows span several calls
@pytest.mark.parametrize("n", [1, 3])
def test_sarsa_equals_a_loop_whatever_the_rollout_length(n, length):
    rows = random_rows(n)
    expected = replay(rows, sarsa_target(rows, n, "epsilon_greedy"), delay=n)
    assert_same(learned(n_step_sarsa, rows, length=length, n_step=n), expected)
    if n == 1:
        assert_same(learned(sarsa, rows, length=length), expected)


@pytest.mark.parametrize("n", [1, 3])
def test_sarsa_under_boltzmann_equals_a_loop(n):
    rows = random_rows(5)
    expected = replay(rows, sarsa_target(rows, n, "boltzmann"), delay=n)
    assert_same(learned(n_step_sarsa, rows, "boltzmann", n_step=n), expected)


def test_double_q_moves_one_table_by_the_other():
    """Row by row: one table takes its own favourite at the other's value, the other stays; both have their turns."""
    rows = Rows(*(x.reshape(-1, 1) for x in random_rows()))
    agent = double_q_learning.make(SPEC, double_q_learning.Config())
    hp, learn = settings(double_q_learning), jax.jit(agent.learn)
    rng = np.random.default_rng(1)
    state = agent.init(jax.random.key(0), hp, jnp.float32(rng.normal(size=(2, STATES, ACTIONS))))
    turns = []
    for t in range(len(rows.obs)):
        before, part = jax.device_get(state), Rows(*(x[t : t + 1] for x in rows))
        clock = Clock(jnp.int32(0), jnp.float32(0))
        state, _ = learn(hp, state, Rollout(transitions(part), ()), clock, jax.random.key(t))
        q, visits = before.q.copy(), before.visits.copy()
        if rows.valid[t, 0]:
            (mine,) = np.flatnonzero((state.visits != before.visits).any((1, 2)))
            turns.append(mine)
            s, a, after = rows.obs[t, 0], rows.action[t, 0], rows.next_obs[t, 0]
            following = before.q[1 - mine, after, before.q[mine, after].argmax()]
            target = rows.reward[t, 0] + GAMMA * (not rows.terminated[t, 0]) * following
            visits[mine, s, a] += 1
            q[mine, s, a] += ALPHA * visits[mine, s, a] ** -DECAY * (target - q[mine, s, a])
        assert_same(state, (q, visits))
    # A fair coin's mean over 60 has standard deviation 0.065.
    assert len(turns) > 50 and abs(np.mean(turns) - 0.5) < 4 * 0.065


def test_double_q_takes_environments_on_one_pair_in_turn():
    """k terminal rewards of 1 at step size ½ take a table from 0 to 1 - ½^k."""
    agent = double_q_learning.make(SPEC, double_q_learning.Config(num_envs=8))
    hp = settings(double_q_learning, learning_rate_decay=0.0)
    here, yes = np.zeros((1, 8), int), np.ones((1, 8), bool)
    rows = Rows(here, here, np.ones((1, 8), np.float32), yes, yes, here, yes)
    state = agent.init(jax.random.key(0), hp)
    clock = Clock(jnp.int32(0), jnp.float32(0))
    state, _ = jax.jit(agent.learn)(hp, state, Rollout(transitions(rows), ()), clock, jax.random.key(2))
    visits = np.asarray(state.visits[:, 0, 0])
    assert visits.sum() == 8 and visits.min() >= 1
    np.testing.assert_allclose(state.q[:, 0, 0], 1 - 0.5**visits)


@pytest.mark.parametrize("module", [expected_sarsa, sarsa, n_step_sarsa])
@pytest.mark.parametrize(
    ("exploration", "values", "expected"),
    [
        # ε = 0.3 at the learn clock, two of three greedy: 0.1 · 0 + 0.45 · 1 + 0.45 · 1
        ("epsilon_greedy", [0.0, 1.0, 1.0], 0.9),
        # exp(ln 3) : exp(0) : exp(0) = 3/5 : 1/5 : 1/5
        ("boltzmann", [0.6 * np.log(3), 0.0, 0.0], 0.36 * np.log(3)),
    ],
)
def test_a_truncated_step_goes_on_with_the_policys_mean(module, exploration, values, expected):
    """r = 2, γ = 0.9, α = 1, and then a row of another episode, which SARSA waits for and must not look at."""
    agent = module.make(SPEC, module.Config(exploration=exploration))
    hp = settings(module, learning_rate=1.0, epsilon_start=1.0, epsilon_end=0.3, epsilon_fraction=0.5)
    q = jnp.full((STATES, ACTIONS), 7.0).at[2].set(jnp.array(values))
    state = agent.init(jax.random.key(0), hp, q)
    length = 6  # n + 1 rows at least, for the first to be learnt from
    no, yes = np.zeros((length, 1), bool), np.ones((length, 1), bool)
    obs, reward = np.full((length, 1), 3), np.zeros((length, 1), np.float32)
    obs[0], reward[0] = 1, 2
    rows = Rows(obs, no.astype(int), reward, ~yes, yes, np.full((length, 1), 2), yes)
    state, _ = jax.jit(agent.learn)(
        hp, state, Rollout(transitions(rows), ()), Clock(jnp.int32(0), jnp.float32(0.5)), jax.random.key(0)
    )
    np.testing.assert_allclose(table_of(state).q[1, 0], 2 + 0.9 * expected, rtol=1e-6)


@each_agent
@pytest.mark.parametrize("exploration", ["epsilon_greedy", "boltzmann"])
def test_behaviour_and_evaluation(module, exploration):
    """Action frequencies of 40,000 draws against π by hand; greedy takes the first best; values are what both go by."""
    draws = 40_000
    agent = module.make(SPEC, module.Config(exploration=exploration, num_envs=draws))
    q = np.zeros((STATES, ACTIONS), np.float32)
    q[1] = [0.6 * np.log(2), 0.0, 0.6 * np.log(2)]
    tables = np.stack([q + 1, q - 1]) if module is double_q_learning else q  # of mean q
    hp = settings(module)
    state = agent.init(jax.random.key(0), hp, jnp.array(tables))
    obs, first = jnp.ones(draws, jnp.int32), jnp.zeros(draws, bool)
    clock = Clock(jnp.int32(0), jnp.float32(0.5))  # ε = 0.5
    action, memory, extras = jax.jit(agent.act)(hp, state, (), obs, first, clock, jax.random.key(1))
    wanted = [0.4, 0.2, 0.4] if exploration == "boltzmann" else [5 / 12, 1 / 6, 5 / 12]
    assert memory == extras == () and action.dtype == jnp.int32
    # Frequencies have standard deviations of at most 0.5 / 200 = 0.0025.
    np.testing.assert_allclose(np.bincount(action, minlength=ACTIONS) / draws, wanted, atol=5 * 0.0025)
    np.testing.assert_allclose(agent.values(hp, state, jnp.array([1, 0])), q[[1, 0]], atol=1e-6)
    best, _ = agent.greedy(hp, state, (), jnp.array([1, 0]), first[:2], jax.random.key(2))
    np.testing.assert_array_equal(best, [0, 0])


@each_agent
@pytest.mark.parametrize("space", [Product((Discrete(2), Discrete(2))), MultiDiscrete((2, 2))], ids=str)
def test_several_integers_are_one(module, space):
    """Acts and learns as on their number, 2 · first + second."""
    rows, hp = transitions(random_rows()), settings(module)

    def pair(x):
        parts = (x // 2, x % 2)
        return parts if isinstance(space, Product) else jnp.stack(parts, -1)

    def learnt(spec, rows):
        agent = module.make(spec, module.Config(num_envs=N))
        start, obs = agent.init(jax.random.key(0), hp), jax.tree.map(lambda x: x[0], rows.obs)
        state, _ = jax.jit(agent.learn)(hp, start, Rollout(rows, ()), CLOCK, jax.random.key(1))
        action, _, _ = agent.act(hp, state, (), obs, rows.first[0], CLOCK, jax.random.key(2))
        return table_of(state), action

    found = learnt(EnvSpec("MDP", space, Discrete(ACTIONS)), rows._replace(obs=pair(rows.obs), next_obs=pair(rows.next_obs)))
    jax.tree.map(np.testing.assert_array_equal, found, learnt(SPEC, rows))


@each_agent
def test_what_is_not_a_table_is_refused(module):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(InputError, match="has 4e\\+09 observations, too many for one"):
        module.make(EnvSpec("X", MultiDiscrete((65536, 65536)), Discrete(2)), module.Config())
    with pytest.raises(InputError, match=f"'{name}' needs discrete observations"):
        module.make(EnvSpec("X", Box((2,), 0.0, 1.0), Discrete(2)), module.Config())
    with pytest.raises(InputError, match=f"'{name}' needs discrete actions"):
        module.make(EnvSpec("X", Discrete(2), Box((2,), 0.0, 1.0)), module.Config())


@each_agent
def test_every_preset_is_of_an_environment_and_of_known_fields(module):
    name = module.__name__.rpartition(".")[2]
    fields = {"total_steps", *module.Config.__dataclass_fields__, *module.HParams.__dataclass_fields__}
    assert {"FrozenLake-misc", "CliffWalking", "RandomGame", "Garnet"} <= presets.presets(name).keys()
    for preset in presets.presets(name).values():
        assert preset.keys() <= fields
