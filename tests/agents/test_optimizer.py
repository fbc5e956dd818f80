"""Optimisers, schedules, frozen leaves, factors, dropout and KL to the first policy: each does what its paper says."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents import ppo, sac
from jaxrl.agents.parts import actor_critic, optimizer
from jaxrl.core.errors import InputError
from jaxrl.networks import leaves, torsos
from jaxrl.ops.distributions import Categorical
from jaxrl.sweeps import plan
from tests.small import AGENTS, QUICK, config_names, hparam_names, released, small_trainer

DEEP = [agent for agent in AGENTS if "optimizer" in config_names(agent)]
HP = optimizer.HParams(learning_rate=0.1, weight_decay=0.5, adam_epsilon=1e-3)
PARAMS = {"params": {"torso": {"w": jnp.float32(2.0)}, "Dense_0": {"w": jnp.float32(-1.0)}}}
SLOPES = {"params": {"torso": {"w": jnp.float32(3.0)}, "Dense_0": {"w": jnp.float32(-0.5)}}}


def slope_loss(params, scale=1.0):
    """Σ slope · parameter: the gradient is the slope."""
    return scale * sum(jax.tree.leaves(jax.tree.map(lambda p, s: p * s, params, SLOPES))), ()


def descended(config, hp, steps, progress=0.0):
    """The two parameters, torso and head, after so many steps."""
    rule = optimizer.make(config, hp, progress)
    params, state = PARAMS, rule.init(PARAMS)
    for _ in range(steps):
        params, state, _ = rule.descend(slope_loss, params, state)
    return [float(params["params"][name]["w"]) for name in ("torso", "Dense_0")]


def by_hand(name, w, g, steps):
    """One parameter under a constant gradient, in plain Python."""
    m = v = 0.0
    for t in range(1, steps + 1):
        if name in ("adam", "adamw"):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            step = m / (1 - 0.9**t) / (math.sqrt(v / (1 - 0.999**t)) + 1e-3)
        elif name == "rmsprop":
            v = 0.99 * v + 0.01 * g * g
            step = g / (math.sqrt(v) + 1e-3)
        else:
            step = g
        w -= 0.1 * (step + (0.0 if name == "adam" else 0.5 * w))
    return w


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "sgd"])
def test_rules_by_hand(name):
    """Decay is decoupled from the gradient (Loshchilov & Hutter 2019, algorithm 2): no moment sees it."""
    for steps in (1, 3):
        expected = [by_hand(name, w, g, steps) for w, g in ((2.0, 3.0), (-1.0, -0.5))]
        np.testing.assert_allclose(descended(optimizer.Config(optimizer=name), HP, steps), expected, rtol=1e-5)


def test_schedules():
    """Up linearly over the first tenth, then down along a line or half a cosine to a quarter of the step size."""
    hp = optimizer.HParams(learning_rate=2.0, learning_rate_anneal=0.75, warmup_fraction=0.1)
    expected = {  # progress: 2 (1 - ¾ p) or 2 (1 - ¾ (1 - cos πp) / 2), half of it half-way through the warm-up
        0.0: (0.0, 0.0), 0.05: (0.9625, 0.995383), 0.5: (1.25, 1.25), 0.75: (0.875, 0.719670), 1.0: (0.5, 0.5),
    }  # fmt: skip
    for progress, sizes in expected.items():
        for name, size in zip(("linear", "cosine"), sizes, strict=True):
            config = optimizer.Config(learning_rate_schedule=name)
            np.testing.assert_allclose(optimizer.step_size(config, hp, jnp.float32(progress)), size, rtol=1e-5)
    constant = optimizer.HParams(learning_rate=2.0)
    assert {float(optimizer.step_size(optimizer.Config(), constant, jnp.float32(p))) for p in (0.0, 0.3, 1.0)} == {2.0}


def test_frozen_leaves_stay_and_factors_scale_steps():
    """SGD: w - 0.1 (g + ½ w). The torso from 2 by 3, the head from -1 by -½."""
    torso, head = 2.0 - 0.1 * (3.0 + 1.0), -1.0 - 0.1 * (-0.5 - 0.5)
    for options, expected in (
        ({"freeze": ("torso",)}, (2.0, head)),
        ({"lr_scale": ("torso=0.5,head=3",)}, ((2.0 + torso) / 2, -1.0 + 3 * (head + 1.0))),
        ({"lr_scale": ("*=0", "head=2")}, (2.0, -1.0 + 2 * (head + 1.0))),
    ):
        found = descended(optimizer.Config(optimizer="sgd", **options), HP, 1)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_thaws_begins_as_if_new():
    """Adam's first step is as long as the step size. Rested for 50 steps with a state of its own, so is a late one's."""
    config, hp = optimizer.Config(freeze=("torso",)), optimizer.HParams(learning_rate=0.1, unfreeze_at=0.5)
    params, state = PARAMS, None
    for step in range(52):
        rule = optimizer.make(config, hp, jnp.float32(step / 100), limit=0.5)
        state = rule.init(params) if state is None else state
        before = params
        params, state, _ = rule.descend(slope_loss, params, state)
        moved = float(before["params"]["torso"]["w"] - params["params"]["torso"]["w"])
        assert moved == (pytest.approx(0.1, rel=1e-3) if step >= 50 else 0.0)


def test_the_norm_of_gradients_counts_only_leaves_that_learn():
    """The head's slope ½ is not clipped at 1 although the torso's is 3: with sgd it moves by 0.1 · ½, clipped by less."""
    hp = optimizer.HParams(learning_rate=0.1)
    for options, late, expected in (
        ({"freeze": ("torso",)}, None, 0.05),
        ({"freeze": ("torso",)}, 0.5, 0.05),
        ({}, None, 0.05 / math.hypot(3.0, 0.5)),
    ):
        config = optimizer.Config(optimizer="sgd", **options)
        rule = optimizer.make(config, dataclasses.replace(hp, unfreeze_at=late), jnp.float32(0.0), limit=1.0)
        params, _, _ = rule.descend(slope_loss, PARAMS, rule.init(PARAMS))
        np.testing.assert_allclose(params["params"]["Dense_0"]["w"] + 1.0, expected, rtol=1e-5)


@pytest.mark.parametrize("agent", DEEP)
def test_a_frozen_torso_has_no_optimiser_state(agent):
    """By shapes: of the torso's leaves nothing is left in the optimiser's state, whose other moments are there."""

    def moments(**config):
        trainer = small_trainer(agent, config=config)
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        paths = [(jax.tree_util.keystr(path), x.size) for path, x in jax.tree_util.tree_leaves_with_path(state.agent)]
        return leaves.named(trainer.agent.params(state.agent)), sum(size for path, size in paths if ".opt_state" in path)

    params, whole = moments()
    size = sum(x.size for name, x in params.items() if leaves.matches(name, "torso"))
    assert 0 < size < sum(x.size for x in params.values())
    assert whole - moments(freeze=("torso",))[1] == 2 * size  # Adam's and RAdam's two moments


FULL = ["ppo", "td3"]  # one with all leaves as one vector, one with two optimisers


@pytest.mark.parametrize("agent", [*FULL, *released(*(agent for agent in DEEP if agent not in FULL))])
def test_training_moves_what_is_not_frozen(agent):
    trainer = small_trainer(agent, total_steps=400, config={"freeze": ("torso",)})
    state = trainer.init(jax.random.key(0))
    after, _ = jax.jit(trainer.train, compiler_options=QUICK)(jax.random.key(0))
    before, after = (leaves.named(trainer.agent.params(s.agent)) for s in (state, after))
    for name, x in before.items():
        if leaves.matches(name, "torso"):
            np.testing.assert_array_equal(x, after[name], err_msg=name)
        elif name.endswith("kernel"):
            assert not np.array_equal(x, after[name]), name


@pytest.mark.parametrize("agent", ["dqn", *released(*(agent for agent in DEEP if agent != "dqn"))])
def test_dropout_is_of_learning_alone(agent):
    """The same parameters act alike with and without it; what is learnt differs."""
    with_dropout, without = (small_trainer(agent, total_steps=300, config={"dropout": rate}) for rate in (0.5, 0.0))
    assert_acts_alike(with_dropout, without)
    one, other = (jax.jit(t.train, compiler_options=QUICK)(jax.random.key(0))[0] for t in (with_dropout, without))
    params = [leaves.named(t.agent.params(s.agent)) for t, s in ((with_dropout, one), (without, other))]
    assert not all(np.array_equal(x, params[1][name]) for name, x in params[0].items())


def assert_acts_alike(trainer, other):
    state, same = (t.init(jax.random.key(0)) for t in (trainer, other))
    args = (state.memory, state.obs, state.first, jax.random.key(1))
    action, expected = (t.agent.greedy(s.hparams, s.agent, *args)[0] for t, s in ((trainer, state), (other, same)))
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(action), jax.tree.leaves(expected), strict=True))


def test_dropout_by_hand():
    """A unit is 0 with probability ¼, else 4/3 of itself, so that its mean stays."""
    module = torsos.Dropout(0.25)
    x = jnp.ones((200, 200))
    out = module.apply({}, x, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(jnp.unique(out), [0.0, 4 / 3], rtol=1e-6)
    assert abs(float((out == 0).mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 40_000)
    np.testing.assert_array_equal(module.apply({}, x), x)


def test_both_critics_and_their_targets_have_dropout_of_their_own():
    """DroQ: four masks. With equal critics and no dropout Q_1 = Q_2; with it they differ, and so does a second key's."""
    spec = jaxrl.make_trainer("sac", "Pendulum-v1", preset="none").env.spec
    nets = sac.networks(spec, sac.Config(dropout=0.5, hidden_sizes=(16,)))
    obs, action = jnp.ones((4, 3)), jnp.ones((4, 1))
    params = nets.critic.init(jax.random.key(0), obs, action)
    params = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), params)
    quiet = nets.q_values(params, obs, action)
    np.testing.assert_array_equal(quiet[0], quiet[1])
    one, two = (nets.q_values(params, obs, action, {"dropout": jax.random.key(k)}) for k in (0, 1))
    assert not np.allclose(one[0], one[1]) and not np.allclose(one, two)
    _, masks = sac.dropouts(sac.Config(dropout=0.5), jax.random.key(0))
    assert len({jax.random.key_data(mask["dropout"]).tobytes() for mask in masks}) == 3


@pytest.mark.parametrize("agent", ["ppo", *released("a2c", "reinforce", "sac")])
def test_kl_to_the_first_policy_holds_the_policy(agent):
    """Greedily dear, it lets the policy hardly move; without weight it is measured alone. Half-way it is half as dear."""
    divergence = {}
    for weight in (0.0, 1e4):
        hparams = {"kl_to_init": weight, "learning_rate": 1e-2, "learning_rate_anneal": 0.0}
        trainer = small_trainer(agent, "CartPole-v1", total_steps=600, hparams=hparams)
        _, metrics = jax.jit(trainer.train, compiler_options=QUICK)(jax.random.key(0))
        divergence[weight] = float(np.nanmean(np.asarray(metrics["kl_to_init"])[-2:]))
    assert divergence[0.0] > 1e-3 and divergence[1e4] < 0.05 * divergence[0.0]


def test_the_penalty_by_hand():
    """KL of coins (¾, ¼) from a fair one: ¾ ln 3/2 + ¼ ln ½ = 0.1308 nats; at ½ of training with 0.4 given up, 0.8 of it."""
    policy, fair = Categorical(jnp.log(jnp.array([[0.75, 0.25]]))), Categorical(jnp.zeros((1, 2)))
    hp = ppo.HParams(kl_to_init=2.0, kl_to_init_anneal=0.4)
    penalty, metrics = actor_critic.kl_to_initial(hp, jnp.float32(0.5), policy, fair, jnp.ones(1, bool))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    np.testing.assert_allclose([penalty, metrics["kl_to_init"]], [2 * 0.8 * kl, kl], rtol=1e-5)
    assert actor_critic.kl_to_initial(ppo.HParams(), 0.5, policy, (), jnp.ones(1, bool)) == (0.0, {})


def test_kl_to_the_first_policy_asks_for_no_memory():
    with pytest.raises(InputError, match="kl_to_init needs a torso without a memory"):
        small_trainer("ppo", config={"torso": "gru", "num_minibatches": 1}, hparams={"kl_to_init": 0.1})


REFUSED = {
    "freeze 'torzo' matches no leaf of the agent; there are actor/torso, critic/torso, actor/head, critic/head": (
        {"freeze": ("torzo",)}, {}),
    "lr_scale 'tors' matches no leaf": ({"lr_scale": ("tors=2",)}, {}),
    r"freeze = \* freezes every leaf": ({"freeze": ("*",)}, {}),
    "lr_scale 'torso' must look like PATTERN=X": ({"lr_scale": ("torso",)}, {}),
    "lr_scale 'torso=-1' must look like PATTERN=X": ({"lr_scale": ("torso=-1",)}, {}),
    "weight_decay = 0.1 needs optimizer = adamw or rmsprop or sgd; adam has none": ({}, {"weight_decay": 0.1}),
    "unfreeze_at = 0.5 needs freeze": ({}, {"unfreeze_at": 0.5}),
    r"freeze = actor critic freezes every leaf": ({"freeze": ("actor", "critic")}, {"unfreeze_at": 0.5}),
    "kl_to_init_anneal = 1.0 needs kl_to_init": ({}, {"kl_to_init_anneal": 1.0}),
    "learning_rate_schedule = cosine needs learning_rate_anneal > 0": (
        {"learning_rate_schedule": "cosine"}, {"learning_rate_anneal": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_do_nothing_is_refused(message):
    config, hparams = REFUSED[message]
    with pytest.raises(InputError, match=message):
        small_trainer("ppo", "CartPole-v1", config=config, hparams=hparams)


def test_every_deep_agent_has_the_settings():
    of_examples = {"classify", "clone", "reconstruct"}
    assert set(DEEP) == {"a2c", "dqn", "neural_bandit", "ppo", "pqn", "r2d2", "reinforce", "sac", "td3"} | of_examples
    for agent in DEEP:
        assert {"warmup_fraction", "weight_decay", "adam_epsilon", "unfreeze_at"} <= set(hparam_names(agent))
        assert {"layer_norm", "dropout", "freeze", "lr_scale"} <= set(config_names(agent))


@pytest.mark.parametrize("agent", DEEP)
def test_layer_norm_is_in_the_network(agent):
    """By shapes: as many scales as hidden layers."""
    trainer = small_trainer(agent, config={"layer_norm": True})
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    scales = [name for name in leaves.named(trainer.agent.params(state.agent)) if "LayerNorm" in name and "scale" in name]
    assert scales


def test_a_sweep_may_vary_what_its_base_would_be_refused_for():
    """Decay with adam alone is refused; in a sweep over optimisers that have it, each configuration is asked."""
    base = jaxrl.Experiment("ppo", "CartPole-v1", total_steps=1_000, hparams={"weight_decay": 0.1}, preset="none")
    settings = {0: {"optimizer": "adamw"}, 1: {"optimizer": "sgd"}}
    assert len(plan.by_config(base, settings, [0])) == 2
    with pytest.raises(InputError, match="weight_decay = 0.1 needs optimizer"):
        plan.by_config(base, settings | {2: {"optimizer": "adam"}}, [0])
    off = {0: {"kl_to_init": 0.1}, 1: {"kl_to_init": 0.2}, 2: {"learning_rate": 1e-3}}
    programs = plan.by_config(jaxrl.Experiment("ppo", "CartPole-v1", preset="none"), off, [0])
    assert [len(members) for _, members in programs] == [2, 1]  # what is off is another program
    assert [experiment.hparams.kl_to_init is None for experiment, _ in programs] == [False, True]


def test_decay_leaves_the_temperature_alone():
    """It is no weight: without a gradient it stays, where the networks' parameters shrink by 1 - 0.1 · ½."""
    config, hp = sac.Config(optimizer="adamw"), sac.HParams(learning_rate=0.1, weight_decay=0.5)
    params = sac.Params(jnp.ones(2), jnp.ones(2), jnp.float32(-2.0))
    rule = sac.optimizer_of(config, hp, 0.0)
    after, _, _ = rule.descend(
        lambda p: (0.0 * (p.actor.sum() + p.critic.sum() + p.log_temperature), ()), params, rule.init(params)
    )
    np.testing.assert_allclose(after.actor, 0.95, rtol=1e-6)
    np.testing.assert_allclose(after.critic, 0.95, rtol=1e-6)
    assert after.log_temperature == -2.0
