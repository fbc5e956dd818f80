"""agents/dqn.py: targets, gates and target updates on a network whose values are known: Q(s, ·) is its head's bias."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import dqn
from jaxrl.core.spaces import Box, Discrete
from jaxrl.core.types import Clock, EnvSpec, Rollout, Transition
from jaxrl.ops.value_distributions import quantile_huber
from tests import plain_dqn

SPEC = EnvSpec("Two", Box((3,)), Discrete(2))
ONLINE, TARGET = [1.0, 3.0], [5.0, 2.0]


def setup(hparams=None, **config):
    """An agent with replay of one transition's width, online values ONLINE and target values TARGET in every state."""
    settings = {"num_envs": 1, "hidden_sizes": (4,), "batch_size": 8, "learning_starts": 0, "replay_capacity": 10}
    agent = dqn.make(SPEC, dqn.Config(**(settings | config)))
    hp = dqn.HParams(**({"gamma": 0.5, "learning_rate": 0.01} | (hparams or {})))
    state = agent.init(jax.random.key(0), hp)

    def constant(values):
        zero = jax.tree.map(jnp.zeros_like, state.learner.params)
        return {"params": {**zero["params"], "Dense_0": {**zero["params"]["Dense_0"], "bias": jnp.array(values)}}}

    return agent, hp, with_weights(state, params=constant(ONLINE), target_params=constant(TARGET))


def with_weights(state, **weights):
    return state._replace(learner=state.learner._replace(**weights))


def rollout(n=1, reward=1.0, action=0, terminated=False, truncated=False, valid=True):
    """One step of n environments."""

    def full(x):
        return jnp.full((1, n), x)

    obs = jnp.zeros((1, n, 3))
    return Rollout(
        Transition(obs, full(False), full(action), full(reward), full(terminated), full(truncated), obs, (), full(valid)), ()
    )


def learn(agent, hp, state, steps, env_steps=7):
    return jax.jit(agent.learn)(hp, state, steps, Clock(jnp.int32(env_steps), jnp.float32(0)), jax.random.key(1))


def bias(params):
    return np.asarray(params["params"]["Dense_0"]["bias"])


# Error = r + γ V(s') - Q(s, a) with r = 1, γ = ½ and Q(s, 0) = 1. V(s') is the target network's 5, or its 2 at the online
# network's choice (action 1) in Double DQN.
CASES = {
    "plain": ({}, {}, 1 + 0.5 * 5 - 1),
    "double": ({"double": True}, {}, 1 + 0.5 * 2 - 1),
    "terminated": ({}, {"terminated": True}, 0.0),
    "truncated": ({}, {"truncated": True}, 1 + 0.5 * 5 - 1),
    "both": ({}, {"terminated": True, "truncated": True}, 0.0),
    "other action": ({}, {"action": 1}, 1 + 0.5 * 5 - 3),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", ["squared", "huber"])
def test_loss_of_one_transition_by_hand(case, loss):
    config, step, error = CASES[case]
    agent, hp, state = setup(**config, loss=loss)
    after, metrics = learn(agent, hp, state, rollout(**step))
    expected = error**2 / 2 if loss == "squared" or abs(error) < 1 else abs(error) - 0.5
    np.testing.assert_allclose(metrics["loss"].value, expected, rtol=1e-6)
    action = step.get("action", 0)
    np.testing.assert_allclose(metrics["q_value"].value, ONLINE[action])
    # Adam's first step has the size of the learning rate, towards the target, at the action taken and nowhere else.
    moved = np.zeros(2)
    moved[action] = 0.01 * np.sign(error)
    np.testing.assert_allclose(bias(after.learner.params) - ONLINE, moved, atol=1e-5)


@pytest.mark.parametrize(("norm", "slope"), [(0.0, 2.5), (0.5, 0.5), (9.0, 2.5), (np.inf, 2.5)])
def test_gradients_are_clipped_and_epsilon_shortens_the_step(norm, slope):
    """The error 2.5 is the whole gradient's norm. Adam's first moment is a tenth of it, its first step α g / (g + ε)."""
    agent, hp, state = setup({"max_grad_norm": norm, "adam_epsilon": 2.5})
    after, _ = learn(agent, hp, state, rollout())
    np.testing.assert_allclose(bias(after.learner.opt_state[1][0].mu), [-0.1 * slope, 0.0], rtol=1e-5)
    np.testing.assert_allclose(bias(after.learner.params) - ONLINE, [0.01 * slope / (slope + 2.5), 0.0], rtol=1e-4)


def test_invalid_rows_teach_nothing():
    agent, hp, state = setup()
    after, metrics = learn(agent, hp, state, rollout(valid=False))
    np.testing.assert_array_equal(bias(after.learner.params), ONLINE)
    assert np.isnan(metrics["q_value"].value)


def test_nothing_is_learnt_before_learning_starts():
    agent, hp, state = setup(learning_starts=7)
    early, metrics = learn(agent, hp, state, rollout(), env_steps=6)
    np.testing.assert_array_equal(bias(early.learner.params), ONLINE)
    assert int(early.learner.opt_state[1][0].count) == 0 and np.isnan(metrics["loss"].value)
    assert int(early.experience.replay.filled) == 1
    later, metrics = learn(agent, hp, state, rollout(), env_steps=7)
    assert bias(later.learner.params)[0] > ONLINE[0] and int(later.learner.opt_state[1][0].count) == 1


@pytest.mark.parametrize("gradient_steps", [1, 3])
def test_gradient_steps(gradient_steps):
    agent, hp, state = setup(gradient_steps=gradient_steps)
    after, metrics = learn(agent, hp, state, rollout())
    assert int(after.learner.opt_state[1][0].count) == gradient_steps == float(metrics["loss"].count)


@pytest.mark.parametrize(
    ("every", "num_envs", "env_steps", "due"),
    [(20, 2, 20, True), (20, 2, 18, False), (20, 2, 22, False), (20, 2, 40, True), (20, 32, 32, True), (50, 32, 96, False),
     (50, 32, 128, True), (1, 1, 3, True)],
)  # fmt: skip
@pytest.mark.parametrize("tau", [1.0, 0.25])
def test_target_moves_when_a_multiple_is_passed(every, num_envs, env_steps, due, tau):
    """Between env_steps - num_envs and env_steps a multiple of `every` is reached: (96, 128] holds 100, (64, 96] no 50."""
    agent, hp, state = setup({"tau": tau}, num_envs=num_envs, target_update_every=every, replay_capacity=100)
    after, _ = learn(agent, hp, state, rollout(num_envs), env_steps)
    expected = tau * bias(after.learner.params) + (1 - tau) * np.array(TARGET) if due else TARGET
    np.testing.assert_allclose(bias(after.learner.target_params), expected, rtol=1e-6)
    if due and tau == 1:
        np.testing.assert_array_equal(bias(after.learner.target_params), bias(after.learner.params))  # a copy, to the bit


def test_epsilon_falls_linearly():
    """ε from 1 to 0 over half of training: at progress ¼ half of the actions are drawn, of which half are greedy's."""
    agent, hp, state = setup({"epsilon_start": 1.0, "epsilon_end": 0.0, "epsilon_fraction": 0.5})
    for progress, share in [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (1.0, 1.0)]:
        clock = Clock(jnp.int32(0), jnp.float32(progress))
        obs = jnp.zeros((4000, 3))
        action, _, _ = agent.act(hp, state, (), obs, jnp.zeros(4000, bool), clock, jax.random.key(2))
        assert abs(float(action.mean()) - share) < 4 * (0.25 / 4000) ** 0.5 * (share < 1) + 1e-6  # greedy is action 1


N_STEP = {
    # Rewards 1, γ = ½, Q(s, 0) = 1, max Q⁻ = 5: 1 + ½ + ¼ + ⅛ · 5 - 1
    "running": ([{}, {}, {}], 1.375),
    "terminated": ([{}, {"terminated": True}, {}], 0.5),
    "truncated": ([{}, {"truncated": True}, {}], 1 + 0.5 + 0.25 * 5 - 1),
}


@pytest.mark.parametrize("case", N_STEP)
def test_three_steps_by_hand(case):
    """A window of three pushes; before the third nothing can be learnt."""
    steps, error = N_STEP[case]
    agent, hp, state = setup(n_step=3)
    for i, step in enumerate(steps):
        state, metrics = learn(agent, hp, with_weights(state, params=setup()[2].learner.params), rollout(**step))
        assert np.isnan(metrics["loss"].value) == (i < 2)
    np.testing.assert_allclose(metrics["loss"].value, error**2 / 2, rtol=1e-6)


def test_prioritised_replay_by_hand():
    """Errors 2.5 (running) and 0 (terminated): α = 1 gives them weights 2.5 and 0 in the tree, up to the offset."""
    agent, hp, state = setup({"priority_exponent": 1.0}, prioritized=True, batch_size=64)
    state, _ = learn(agent, hp, state, rollout())
    online = setup()[2].learner.params
    state, _ = learn(agent, hp, with_weights(state, params=online), rollout(terminated=True))
    np.testing.assert_allclose(state.experience.priorities.tree[0][:3], [2.5, 0, 0], atol=2e-6)
    # A draw is then of the first, but for one in a million; a new transition comes with the highest weight so far.
    after, metrics = learn(agent, hp, with_weights(state, params=online), rollout(terminated=True))
    np.testing.assert_allclose(state.experience.priorities.highest, 2.5, atol=2e-6)
    # β = 0.4 at the start. Strata of equal mass: half of the batch each, P · 3 = 1.5 for both, all weights 1.
    np.testing.assert_allclose(metrics["loss"].value, 0.5 * 2.5**2 / 2, rtol=1e-3)


def test_importance_weights_shape_the_loss():
    """Priorities 3 and 1, errors 2.5 and 0, β = 1: shares ¾ and ¼, weights ⅓ and 1: mean ¾ · ⅓ · 2.5² / 2."""
    agent, hp, state = setup({"importance_exponent": 1.0, "priority_exponent": 1.0}, prioritized=True, batch_size=64)
    state, _ = learn(agent, hp, state, rollout())
    state, _ = learn(agent, hp, state, rollout(terminated=True))
    tree = tuple(jnp.zeros_like(x).at[0].set(4.0) for x in state.experience.priorities.tree)
    tree = (tree[0].at[0].set(3.0).at[1].set(1.0), *tree[1:])
    # The third push weighs the highest weight so far: nothing here.
    priorities = state.experience.priorities._replace(tree=tree, highest=jnp.float32(0))
    state = with_weights(state, params=setup()[2].learner.params)
    state = state._replace(experience=state.experience._replace(priorities=priorities))
    _, metrics = learn(agent, hp, state, rollout())
    np.testing.assert_allclose(metrics["loss"].value, 0.75 / 3 * 2.5**2 / 2, rtol=1e-5)


def distributional_setup(online, target, **config):
    """Outputs [A, M] of every state: `online` and `target`, lists of two."""
    agent, hp, state = setup({"v_min": 0.0, "v_max": 2.0}, num_atoms=len(online[0]), **config)

    def constant(values):
        zero = jax.tree.map(jnp.zeros_like, state.learner.params)
        head = {**zero["params"]["Dense_0"], "bias": jnp.array(values, jnp.float32).reshape(-1)}
        return {"params": {**zero["params"], "Dense_0": head}}

    return agent, hp, with_weights(state, params=constant(online), target_params=constant(target))


def test_c51_by_hand():
    """Atoms 0, 1, 2, r = 1, γ = ½. Q⁻ is highest at action 1 = {0: ½, 2: ½}: shifted to 1 and 2, projected {1: ½, 2: ½}.

    The online distribution at action 0 is {¼, ½, ¼}: KL = ½ log(½ / ½) + ½ log(½ / ¼) = ½ log 2, also the priority.
    """
    low, log = [0.0, -30.0, -30.0], np.log
    online, target = [[0.0, log(2), 0.0], low], [low, [0.0, -30.0, 0.0]]
    agent, hp, state = distributional_setup(online, target, distributional="c51", prioritized=True)
    np.testing.assert_allclose(agent.values(hp, state, jnp.zeros((1, 3)))[0], [1.0, 0.0], atol=1e-6)
    after, metrics = learn(agent, hp, state, rollout())
    np.testing.assert_allclose(metrics["loss"].value, 0.5 * log(2), rtol=1e-5)
    np.testing.assert_allclose(metrics["q_value"].value, 1.0, rtol=1e-6)
    np.testing.assert_allclose(after.experience.priorities.tree[0][0], (0.5 * log(2) + 1e-6) ** 0.5, rtol=1e-4)
    # In Double DQN the online network chooses a' = 0 = {0: 1}: shifted to 1. KL = log(1 / ½).
    agent, hp, state = distributional_setup(online, target, distributional="c51", double=True)
    np.testing.assert_allclose(learn(agent, hp, state, rollout())[1]["loss"].value, log(2), rtol=1e-5)


def test_qr_dqn_by_hand():
    """Quantiles 1, 3 at the action taken; the target network's best action has 2, 6: targets 1 + ½ · 2 = 2 and 4.

    u: 1, 3 | -1, 1. Huber: ½, 2½ | ½, ½. Weights: ¼, ¼ | ¼, ¾. (⅛ + ⅝) / 2 + (⅛ + ⅜) / 2 = ⅝.
    """
    online, target = [[1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 6.0]]
    agent, hp, state = distributional_setup(online, target, distributional="quantile")
    np.testing.assert_allclose(agent.values(hp, state, jnp.zeros((1, 3)))[0], [2.0, 0.0])
    _, metrics = learn(agent, hp, state, rollout())
    np.testing.assert_allclose(metrics["loss"].value, 0.625, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"].value, quantile_huber(jnp.array([1.0, 3.0]), jnp.array([2.0, 4.0])))


def act(agent, hp, state, n, progress=0.0, seed=2):
    clock = Clock(jnp.int32(0), jnp.float32(progress))
    return agent.act(hp, state, (), jnp.zeros((n, 3)), jnp.zeros(n, bool), clock, jax.random.key(seed))[0]


def test_boltzmann_behaviour():
    """Q = 1, 3 at temperature 2: action 1 with probability 1 / (1 + e^-1)."""
    agent, hp, state = setup({"temperature": 2.0}, exploration="boltzmann")
    share, expected = float(act(agent, hp, state, 20_000).mean()), 1 / (1 + np.exp(-1))
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5


def test_noisy_nets_explore_without_epsilon_and_evaluate_without_noise():
    agent, hp = dqn.make(SPEC, dqn.Config(num_envs=1, noisy=True, hidden_sizes=(16,))), dqn.HParams()
    state = agent.init(jax.random.key(1), hp)
    obs = jnp.ones((200, 3))
    clock = Clock(jnp.int32(0), jnp.float32(0))
    action, _, _ = agent.act(hp, state, (), obs, jnp.zeros(200, bool), clock, jax.random.key(2))
    assert 0 < float(action.mean()) < 1  # environments draw weights of their own
    greedy, _ = agent.greedy(hp, state, (), obs, jnp.zeros(200, bool), jax.random.key(2))
    assert (greedy == greedy[0]).all() and greedy[0] == agent.values(hp, state, obs)[0].argmax()
    silent = jax.tree_util.tree_map_with_path(lambda p, x: x * 0 if "sigma" in str(p[-1]) else x, state.learner.params)
    action, _, _ = agent.act(hp, with_weights(state, params=silent), (), obs, jnp.zeros(200, bool), clock, jax.random.key(2))
    assert (action == greedy).all()  # without noise no exploration is left: ε plays no part


def layers(params):
    """Our weights in the shape of plain_dqn's."""
    torso = params["params"]["Torso_0"]["MLP_0"]
    dense = (torso["Dense_0"], torso["Dense_1"], params["params"]["Dense_0"])
    return {"params": {f"Dense_{i}": layer for i, layer in enumerate(dense)}}


def test_all_options_off_is_plain_dqn():
    """Beside tests/plain_dqn.py, from the same weights: 550 updates, 40 target copies, a ring gone round six times.

    Every episode and every loss is the same; weights but for the last bits, for compiled programs differ in which
    multiplications and additions they contract into one.
    """
    settings = {"hidden_sizes": (32, 16), "batch_size": 32, "learning_starts": 500, "replay_capacity": 1000,
                "target_update_every": 150}  # fmt: skip
    ours, plain = (
        jaxrl.make_trainer(agent, "CartPole-v1", total_steps=6000, preset="none", config=settings)
        for agent in ("dqn", plain_dqn)
    )

    def train(trainer, params):
        state = trainer.init(jax.random.key(0), params=params)
        return jax.lax.scan(lambda s, _: trainer.step(s), state, length=trainer.num_iterations)

    start = ours.init(jax.random.key(0)).agent.learner.params
    (state, metrics), (expected, expected_metrics) = jax.jit(lambda p: (train(ours, p), train(plain, layers(p))))(start)
    np.testing.assert_array_equal(metrics["episode_return"], expected_metrics["episode_return"])
    np.testing.assert_allclose(metrics["loss"], expected_metrics["loss"], rtol=1e-6)
    learner = state.agent.learner
    for a, b in ((learner.params, expected.agent.params), (learner.target_params, expected.agent.target_params)):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), layers(a), b)


@pytest.mark.parametrize("options", [{}, {"prioritized": True, "n_step": 3}])
def test_no_copy_of_the_buffer_in_the_vmapped_program(options):
    """The compiled iteration neither copies nor selects anything of the buffer's size, alone or vmapped."""
    config = {"replay_capacity": 7770, "hidden_sizes": (8,), "batch_size": 8, "updates_per_iteration": 20}
    trainer = jaxrl.make_trainer("dqn", "CartPole-v1", preset="none", config=config | options)
    for width, step in ((None, trainer.step), (3, jax.vmap(trainer.step))):
        keys = jax.random.key(0) if width is None else jax.vmap(jax.random.key)(jnp.arange(width))
        state = (trainer.init if width is None else jax.vmap(trainer.init))(keys)
        text = jax.jit(step, donate_argnums=0).lower(state).compile().as_text()
        assert "777,10,4]" in text and ("f32[" + "3," * bool(width) + "7776]" in text) == bool(options)
        shapes = r"f32\[(3,)?777,10,4\]|f32\[(3,)?7776\]"  # observations, and the leaves of the tree of priorities
        copies = [line for line in text.splitlines() if re.search(rf"({shapes})\S* (copy|select)\(", line)]
        in_loop = [line for line in copies if "while" in line]
        assert not in_loop, in_loop
