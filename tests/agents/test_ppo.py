"""agents/ppo.py: its loss, gradient and switches by hand, on a network whose outputs are its heads' biases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl.agents import ppo
from jaxrl.agents.parts import actor_critic, minibatch
from jaxrl.core.means import Mean
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.ops.distributions import Categorical

SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
LN2 = float(np.log(2))
CLOCK = Clock(jnp.int32(4), jnp.float32(0.5))


def setup(hparams=None, value=0.5, logits=(0.0, 0.0), **config):
    """π = softmax(logits) and V = value in every state; two environments, rollouts of two steps, one gradient step."""
    sizes = {"num_envs": 2, "rollout_length": 2, "hidden_sizes": (4,), "num_epochs": 1, "num_minibatches": 1}
    config = ppo.Config(**(sizes | {"normalize_advantages": False} | config))
    hp = ppo.HParams(**({"gamma": 0.5, "gae_lambda": 0.5, "max_grad_norm": 1e9, "entropy_coef": 0.0} | (hparams or {})))
    agent = ppo.make(SPEC, config)
    params = jax.tree.map(jnp.zeros_like, agent.init(jax.random.key(0), hp).params)
    params["params"]["value_head"]["bias"] = jnp.array([value])
    params["params"]["policy_head"]["Dense_0"]["bias"] = jnp.array(logits)
    return agent, hp, agent.init(jax.random.key(0), hp, params), config


def rows(**values):
    """Four rows whose old policy was uniform, with advantages 1, -1, 2, -2 and the actions 0, 0, 1, 1."""
    base = {
        "obs": jnp.zeros((4, 3)),
        "first": jnp.zeros(4, bool),
        "action": jnp.array([0, 0, 1, 1]),
        "log_prob": jnp.full(4, -LN2),
        "policy": Categorical(jnp.zeros((4, 2))),
        "advantage": jnp.array([1.0, -1.0, 2.0, -2.0]),
        "value": jnp.zeros(4),
        "ret": jnp.ones(4),
        "valid": jnp.ones(4, bool),
    }
    return ppo.Rows(**(base | values))


START = Clock(jnp.int32(0), jnp.float32(0))


def loss_of(setting, batch):
    _, hp, state, config = setting
    network = actor_critic.network_for(SPEC, config, "ppo")
    return jax.jit(ppo.loss, static_argnums=(1, 2))(
        state.params, network, config, hp, START, jnp.float32(3.0), minibatch.Batch((), batch), None
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),  # within ± 0.2
        (1.5, 2.0, -2.4),  # a gain is cut at 1.2
        (0.5, 2.0, -1.0),  # a loss is not
        (0.5, -2.0, 1.6),  # a gain is cut at 0.8
        (1.5, -2.0, 3.0),
    ],
)
def test_policy_loss_by_hand(ratio, advantage, expected):
    found = ppo.policy_loss(jnp.float32(advantage), jnp.log(jnp.float32(ratio)), jnp.float32(0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "old", "ret", "expected"),
    [
        (1.1, 1.0, 2.0, 0.405),  # ½ 0.9², the move is within ± 0.2
        (1.5, 1.0, 2.0, 0.32),  # held to 1.2: ½ 0.8² is worse than ½ 0.5²
        (0.0, 1.0, 2.0, 2.0),  # moving away: ½ 2² is worse than held to 0.8
        (3.0, 1.0, 2.0, 0.5),  # past the return: ½ 1² against ½ 0.8²
    ],
)
def test_clipped_value_loss_by_hand(value, old, ret, expected):
    found = ppo.clipped_value_loss(*(jnp.float32(x) for x in (value, old, ret)), jnp.float32(0.2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(("kl", "factor"), [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1), (0.0149, 1), (0.0151, 2), (1.0, 2)])
def test_the_penalty_adapts_by_halves_and_doubles(kl, factor):
    """Section 4: below target / 1.5 half, above 1.5 · target double; target = 0.01."""
    np.testing.assert_allclose(ppo.next_kl_coef(jnp.float32(3.0), jnp.float32(kl), jnp.float32(0.01)), 3 * factor)


def test_advantages_are_centred_and_scaled_over_valid_rows():
    """1, 3, (99): mean 2, deviation 1."""
    found = ppo.normalized(jnp.array([1.0, 3.0, 99.0]), jnp.array([True, True, False]))
    np.testing.assert_allclose(found[:2], [-1, 1], rtol=1e-6)


def test_loss_by_hand():
    """π = (¾, ¼) against ½: ρ = 1.5, 1.5, ½, ½; clipped at ± 0.2, A = 1, -1, 2, -2.

    Policy: -(1.2 - 1.5 + 1.0 - 1.6) / 4 = 0.225. Value: V = ½, G = 1: 1/8. H = -¾ ln ¾ - ¼ ln ¼.
    KL estimate: mean of ρ - 1 - ln ρ = (2 (½ - ln 1.5) + 2 (ln 2 - ½)) / 4 = (ln 2 - ln 1.5) / 2.
    """
    setting = setup({"entropy_coef": 0.1}, logits=(np.log(3.0), 0.0))
    total, parts = loss_of(setting, rows())
    entropy = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    expected = {"policy_loss": 0.225, "value_loss": 0.125, "entropy": entropy, "kl": (LN2 - np.log(1.5)) / 2}
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(total, 0.225 + 0.5 * 0.125 - 0.1 * entropy, rtol=1e-5)


def test_kl_penalty_by_hand():
    """KL(uniform ‖ (¾, ¼)) = ½ ln(½ / ¾) + ½ ln(½ / ¼), weighted by β = 3."""
    plain, _ = loss_of(setup(logits=(np.log(3.0), 0.0)), rows())
    total, parts = loss_of(setup(logits=(np.log(3.0), 0.0), kl_penalty=True), rows())
    kl = 0.5 * np.log(2 / 3) + 0.5 * np.log(2)
    np.testing.assert_allclose(parts["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(total - plain, 3 * kl, rtol=1e-5)


def test_value_clipping_and_normalisation_are_switches():
    """Clipped: old V = 0 holds ½ to 0.2, ½ 0.8² = 0.32. Normalised: 1, -1, 2, -2 over √2.5; only gains are cut."""
    assert loss_of(setup(clip_value=True), rows())[1]["value_loss"] == pytest.approx(0.32)
    skewed = rows(advantage=jnp.array([1.0, 1.0, 1.0, 5.0]))  # mean 2, deviation √3
    _, parts = loss_of(setup(logits=(np.log(1.1 / 0.9), 0.0), normalize_advantages=True), skewed)
    a = (np.array([1, 1, 1, 5]) - 2) / np.sqrt(3)
    np.testing.assert_allclose(parts["policy_loss"], -np.mean(a * [1.1, 1.1, 0.9, 0.9]), rtol=1e-5)


def test_invalid_rows_teach_nothing():
    valid = jnp.array([True, True, False, False])
    poisoned = rows(valid=valid, ret=jnp.array([1.0, 1, 1e6, 1e6]), advantage=jnp.array([1.0, -1, 1e6, -1e6]))
    clean = rows(valid=valid)
    setting = setup(normalize_advantages=True)
    np.testing.assert_allclose(loss_of(setting, poisoned)[0], loss_of(setting, clean)[0], rtol=1e-6)


def rollout(log_prob=-LN2):
    """Two steps of two environments: rewards 1, 2 and 3, 4, the first truncated at its first step, both running on."""
    shape, none = (2, 2), jnp.zeros((2, 2), bool)
    truncated = jnp.array([[True, False], [False, False]])
    reward = jnp.array([[1.0, 3.0], [2.0, 4.0]])
    action = jnp.array([[0, 1], [1, 0]], jnp.int32)
    obs, extras = jnp.zeros((*shape, 3)), (jnp.full(shape, log_prob), ())
    steps = Transition(obs, none, action, reward, none, truncated, obs, extras, ~none)
    return Rollout(steps, ())


def first_moment(state):
    """Adam's, which keeps one vector for all parameters, in the parameters' shapes."""
    return ravel_pytree(state.params)[1](state.opt_state[1][0].mu)


def test_gradient_of_a_whole_learning_phase_by_hand():
    """V = ½, γ = λ = ½. Last steps: δ = r + ¼ - ½ = 1.75, 3.75. First steps: truncated, 1 + ¼ - ½ = 0.75; 2.75 + ¼ · 3.75.

    With ρ = 1 the gradient in the logits is -E[A (onehot(a) - ½)]; in V's bias value_coef · E[V - G] = -½ E[A].
    """
    agent, hp, state, _ = setup({"learning_rate_anneal": 0.0})
    advantages = np.array([[0.75, 2.75 + 0.9375], [1.75, 3.75]])
    after, metrics = jax.jit(agent.learn)(hp, state, rollout(), CLOCK, jax.random.key(0))
    np.testing.assert_allclose(metrics["policy_loss"].value, -advantages.mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["value_loss"].value, (advantages**2).mean() / 2, rtol=1e-6)
    mu = first_moment(after)["params"]  # after one step: 0.1 · gradient
    onehot = np.eye(2)[[[0, 1], [1, 0]]]
    expected = -(advantages[..., None] * (onehot - 0.5)).mean((0, 1))
    np.testing.assert_allclose(mu["policy_head"]["Dense_0"]["bias"], 0.1 * expected, rtol=1e-5)
    np.testing.assert_allclose(mu["value_head"]["bias"], 0.1 * -0.5 * advantages.mean(), rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    """The first moment is 0.1 · g · max / ‖g‖, over all leaves together."""
    free, clipped = (first_moment(learn_once(setup({"max_grad_norm": norm}))[0]) for norm in (1e9, 0.01))
    norm = 10 * np.sqrt(sum(float(jnp.square(x).sum()) for x in jax.tree.leaves(free)))
    assert norm > 0.1
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(free), strict=True):
        np.testing.assert_allclose(a, b * 0.01 / norm, rtol=1e-5, atol=1e-9)


def learn_once(setting, batch=None):
    agent, hp, state, _ = setting
    return jax.jit(agent.learn)(hp, state, batch or rollout(), CLOCK, jax.random.key(0))


def test_learning_stops_before_the_step_beyond_the_kl_limit():
    """The step of a minibatch whose KL exceeds 1.5 · kl_target is not taken, nor any after it (SB3's `target_kl`).

    The estimate is E[ρ - 1 - ln ρ]. Where log π_old = -3 and π = ½, ρ = e³/2 before any step. Where both are ½ it is 0; the
    step of 1 that moves the logits to ± 1 makes it ln cosh 1, as often as either action was taken.
    """

    def steps(kl_target, batch=None, **config):
        hparams = {"kl_target": kl_target, "learning_rate": 1.0, "learning_rate_anneal": 0.0}
        after, metrics = learn_once(setup(hparams, **({"kl_stop": True, "num_epochs": 3} | config)), batch)
        return int(after.opt_state[1][0].count), metrics["kl"]

    limit = float(np.log(np.cosh(1.0)))
    assert steps(0.99 * limit / 1.5)[0] == 1 and steps(1.01 * limit / 1.5)[0] > 1
    far, ratio = rollout(log_prob=-3.0), np.exp(3.0) / 2
    (count, kl), (free, _) = steps(0.01, far), steps(0.01, far, kl_stop=False)
    assert (count, free, kl.count) == (0, 3, 1)
    np.testing.assert_allclose(kl.value, ratio - 1 - np.log(ratio), rtol=1e-5)


@pytest.mark.parametrize(("learning_rate", "factor"), [(1e-5, 0.5), (1.0, 2.0)])
def test_the_penalty_weight_follows_how_far_the_policy_moved(learning_rate, factor):
    """After the phase: next to no KL halves β, a step of 1 in the logits doubles it. Without the penalty it stays."""
    setting = setup({"kl_coef": 4.0, "learning_rate": learning_rate}, kl_penalty=True)
    steps = rollout()
    steps = steps._replace(steps=steps.steps._replace(extras=(jnp.full((2, 2), -LN2), Categorical(jnp.zeros((2, 2, 2))))))
    assert float(learn_once(setting, steps)[0].kl_coef) == 4.0 * factor
    assert float(learn_once(setup({"kl_coef": 4.0, "learning_rate": learning_rate}))[0].kl_coef) == 4.0


def test_annealing_is_traced():
    """Half-way, anneal 1 halves Adam's first step, which is the step size itself."""
    fields = {"learning_rate": 0.1, "max_grad_norm": 1e9}
    program = jax.jit(setup()[0].learn)
    moved = []
    for anneal in (0.0, 1.0):
        _, hp, state, _ = setup(fields | {"learning_rate_anneal": anneal})
        after = program(hp, state, rollout(), CLOCK, jax.random.key(0))[0]
        moved.append(after.params["params"]["value_head"]["bias"] - state.params["params"]["value_head"]["bias"])
    np.testing.assert_allclose(moved[1], moved[0] / 2, rtol=1e-4)
    assert program._cache_size() == 1


def test_minibatches_must_divide_the_rollout():
    with pytest.raises(ValueError, match="num_minibatches = 3 must divide"):
        ppo.make(SPEC, ppo.Config(num_envs=2, rollout_length=2, num_minibatches=3))
    with pytest.raises(ValueError, match=r"num_minibatches = 4 must divide num_envs \(torso = gru.* = 2"):
        ppo.make(SPEC, ppo.Config(num_envs=2, rollout_length=8, num_minibatches=4, torso="gru"))


def test_sequences_of_minibatches_keep_time_order():
    """With a memory: whole environments are drawn, here three of six, and lie as [T, B] beside their own memory."""
    config = dataclasses.replace(setup()[3], torso="gru", num_envs=6, num_minibatches=2, num_epochs=1)
    network = actor_critic.network_for(SPEC, config, "ppo")
    steps = jnp.arange(18).reshape(3, 6)  # [T, N]: environment 0 has 0, 6, 12

    def step(drawn, batch, key):
        in_order = (batch.rows == batch.memory[None] - 10 + jnp.array([[0], [6], [12]])).all()
        return drawn.at[batch.memory - 10].add(1), {"in_order": Mean.of(in_order)}

    args = (config, network, step, jnp.zeros(6), 10 + jnp.arange(6), steps, jax.random.key(0))
    drawn, metrics = minibatch.descend(*args)
    np.testing.assert_array_equal(drawn, np.ones(6))
    assert metrics["in_order"].value == 1 and metrics["in_order"].count == 2
