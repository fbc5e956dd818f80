"""envs/garnet.py: random processes as they are defined, and twenty of them in one program as a test of the agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from benchmarks import oracles
from jaxrl.core import loop
from jaxrl.core.errors import InputError
from jaxrl.envs.garnet import Params, State, draw, make
from jaxrl.ops.dynamic_programming import policy_evaluation

GAMMA, PROCESSES = 0.6, 20


@pytest.mark.parametrize(("branching", "termination"), [(1, 0.0), (3, 0.0), (3, 0.25), (6, 0.0)])
def test_rows_have_their_mass_on_so_many_states(branching, termination):
    params = draw(jax.random.key(0), 6, 2, branching, termination)
    assert params.probability.shape == (6, 2, 6) and params.reward.shape == (6, 2)
    assert (np.asarray(params.probability) >= 0).all()
    np.testing.assert_array_equal((np.asarray(params.probability) > 0).sum(-1), branching)
    np.testing.assert_allclose(params.probability.sum(-1), 1 - termination, rtol=1e-6)


def test_processes_are_drawn_as_the_paper_says():
    """Uniform successors; of two parts of the unit interval each is uniform (variance 1/12); normal rewards."""
    params = jax.vmap(lambda key: draw(key, 5, 4, 2))(jax.random.split(jax.random.key(0), 500))
    rows = np.asarray(params.probability).reshape(-1, 5)  # 10,000
    # Each of 5 states is among 2 successors with probability 0.4: standard deviation √(0.24 / 10,000) = 0.0049
    np.testing.assert_allclose((rows > 0).mean(0), 0.4, atol=5 * 0.0049)
    np.testing.assert_allclose(rows[rows > 0].var(), 1 / 12, rtol=0.05)
    np.testing.assert_allclose([np.mean(params.reward), np.std(params.reward)], [0, 1], atol=5 / np.sqrt(10_000))


def test_steps_follow_the_probabilities_rewards_and_ends():
    env = make(num_states=4, num_actions=2, branching=3, termination=0.3)
    params = env.params._replace(noise=jnp.float32(2.0))
    keys = jax.random.split(jax.random.key(0), 40_000)
    step = jax.jit(jax.vmap(env.step, (0, None, None, None)))
    _, out = step(keys, State(jnp.int32(2), jnp.int32(98)), jnp.int32(1), params)
    expected = np.asarray(params.probability[2, 1])
    # Frequencies of 40,000 draws have standard deviations of at most 0.5 / 200 = 0.0025
    np.testing.assert_allclose(np.bincount(out.obs, minlength=4) / 40_000, expected / 0.7, atol=5 * 0.0025)
    np.testing.assert_allclose(out.terminated.mean(), 0.3, atol=5 * 0.0025)
    np.testing.assert_allclose(out.reward.mean(), params.reward[2, 1], atol=5 * 2 / 200)
    np.testing.assert_allclose(out.reward.std(), 2.0, rtol=0.02)
    assert not out.truncated.any()
    _, out = step(keys[:2], State(jnp.int32(2), jnp.int32(99)), jnp.int32(1), params)  # the hundredth step of 100
    assert out.truncated.all()


def test_a_full_row_never_terminates_and_without_noise_rewards_are_exact():
    env = make()
    params = env.params._replace(noise=jnp.float32(0.0))
    keys = jax.random.split(jax.random.key(1), 20_000)
    states = State(jax.random.randint(keys[0], (20_000,), 0, 10), jnp.zeros(20_000, jnp.int32))
    _, out = jax.jit(jax.vmap(env.step, (0, 0, None, None)))(keys, states, jnp.int32(0), params)
    assert not out.terminated.any()
    np.testing.assert_array_equal(out.reward, params.reward[states.place, 0])


def test_the_seed_decides_the_process():
    first, again, other = make(seed=1).params, make(seed=1).params, make(seed=2).params
    np.testing.assert_array_equal(first.probability, again.probability)
    assert (first.reward != other.reward).all()
    for tag in (loop.INIT, loop.TRAIN, loop.EVALUATE, loop.RENDER):  # what the run of seed 1 draws from
        assert (first.reward != draw(jax.random.fold_in(jax.random.key(1), tag), 10, 3, 3).reward).all()


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"branching": 0}, "branching = 0"),
        ({"branching": 11}, "branching = 11"),
        ({"num_actions": 1}, "num_actions = 1"),
        ({"termination": 1.5}, "termination = 1.5"),
    ],
)
def test_a_process_that_cannot_be_is_refused(kwargs, named):
    with pytest.raises(InputError, match=named):
        make(**kwargs)


def learnt(agent, **hparams):
    """Twenty processes, some of which may end, learnt from by as many members of one program: params, and Q [20, S, A]."""
    env = make(num_states=5, num_actions=2, branching=2)
    process_keys, run_keys = jax.random.split(jax.random.key(7), (2, PROCESSES))
    ends = jnp.linspace(0.0, 0.2, PROCESSES)
    params: Params = jax.vmap(lambda key, end: draw(key, 5, 2, 2, end))(process_keys, ends)
    settings = {"learning_rate": 1.0, "learning_rate_decay": 0.85, "gamma": GAMMA, "epsilon_start": 1.0} | hparams
    trainer = jaxrl.make_trainer(agent, env, total_steps=40_000, config={"num_envs": 8}, hparams=settings, preset="none")
    states, _ = jax.jit(jax.vmap(trainer.train, (0, None, 0)))(run_keys, None, params)
    values = jax.vmap(trainer.agent.values, (None, 0, None))(trainer.hparams, states.agent, jnp.arange(5))
    return params, np.asarray(values)


def optimal(params):
    pairs = zip(np.asarray(params.probability, float), np.asarray(params.reward, float), strict=True)
    return np.stack([oracles.value_iteration(p, r, GAMMA) for p, r in pairs])


@pytest.mark.parametrize("agent", ["q_learning", "double_q_learning"])
def test_off_policy_agents_converge_to_value_iteration(agent):
    params, q = learnt(agent, epsilon_end=1.0)
    np.testing.assert_allclose(q, optimal(params), atol=0.12)


@pytest.mark.parametrize("agent", ["sarsa", "expected_sarsa", "n_step_sarsa"])
def test_on_policy_agents_converge_to_the_value_of_a_fixed_policy(agent):
    """ε = 1 is the uniform policy, whatever was learnt."""
    params, q = learnt(agent, epsilon_end=1.0)
    pairs = zip(np.asarray(params.probability, float), np.asarray(params.reward, float), strict=True)
    wanted = [oracles.policy_evaluation(p, r, np.full((5, 2), 0.5), GAMMA) for p, r in pairs]
    np.testing.assert_allclose(q, wanted, atol=0.12)
    assert np.abs(q - optimal(params)).max() > 0.5  # which another policy's is not


@pytest.mark.parametrize("agent", ["sarsa", "expected_sarsa"])
def test_at_a_fixed_epsilon_they_converge_to_the_best_policy_that_explores_so(agent):
    """Q = r + γ P [(1 - ε) max Q + ε mean Q], a contraction: iterated in float64."""
    params, q = learnt(agent, epsilon_start=0.3, epsilon_end=0.3)
    p, r = np.asarray(params.probability, float), np.asarray(params.reward, float)
    wanted = np.zeros_like(r)
    for _ in range(100):  # 0.6¹⁰⁰ < 1e-22
        wanted = r + GAMMA * np.einsum("msat,mt->msa", p, 0.7 * wanted.max(-1) + 0.3 * wanted.mean(-1))
    # Some pairs are seldom tried: of ten draws of twenty processes each the worst error is 0.21, where Q* is 0.44 away.
    np.testing.assert_allclose(q, wanted, atol=0.25)
    assert np.abs(q - optimal(params)).max() > 0.4
    policy = 0.3 / 2 + 0.7 * (q == q.max(-1, keepdims=True))
    found = jax.vmap(policy_evaluation, (0, 0, 0, None))(params.probability, params.reward, jnp.float32(policy), GAMMA)
    np.testing.assert_allclose(found, wanted, atol=0.05)  # the policy learnt is as good as the best one of its kind
