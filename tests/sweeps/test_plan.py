"""Sweeps: the plan, the sameness of members, waves, divergence, and a sweep's directory through kills and damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.devices import memory, programs
from jaxrl.devices.layout import Layout
from jaxrl.experiment import search_space
from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import plan as plans
from tests.same_bits import on_devices, sweep_of_nine
from tests.small import assert_trees_equal, small_config

GRID = {"learning_rate": [1e-2, 1e-3, 3e-3], "hidden_sizes": [(16,), (24,)]}
STEPS = 1500
SETTINGS = {"config": small_config("reinforce"), "preset": "none", "total_steps": STEPS}


@pytest.fixture(scope="module")
def swept():
    """3 learning rates × 2 networks × 2 seeds."""
    return jaxrl.sweep("reinforce", "CartPole-v1", grid=GRID, seeds=2, seed=5, **SETTINGS)


def test_shapes_and_order(swept):
    """The last axis of the grid varies fastest; metrics are [config, seed, iteration]."""
    assert [(c["learning_rate"], c["hidden_sizes"]) for c in swept.configs] == [
        (lr, hidden) for lr in GRID["learning_rate"] for hidden in GRID["hidden_sizes"]
    ]
    iterations = swept.agent(0, 0)[0].num_iterations
    assert {x.shape for x in swept.metrics.values()} == {(6, 2, iterations)}
    assert swept.final_return.shape == swept.diverged.shape == (6, 2)
    assert (swept.metrics["env_steps"] == swept.metrics["env_steps"][0, 0]).all() and not swept.diverged.any()
    assert swept.seeds == [5, 6]


@pytest.mark.exact
def test_a_member_is_the_same_as_in_a_run_of_its_configuration_alone(swept):
    """To the bit: `jit(vmap(train))` over other seeds, with the configuration's own settings."""
    trainer = jaxrl.make_trainer(
        "reinforce",
        "CartPole-v1",
        total_steps=STEPS,
        preset="none",
        config=small_config("reinforce") | {"hidden_sizes": (24,)},
        hparams={"learning_rate": 1e-3},
    )
    states, metrics = jax.jit(jax.vmap(trainer.train))(jax.vmap(jax.random.key)(jnp.array([6, 9, 5])))
    for member, j in ((0, 1), (2, 0)):
        found, state = swept.agent(3, j)
        assert found.total_steps == trainer.total_steps
        assert_trees_equal(state, jaxrl.member(states, member))
        for name, x in metrics.items():
            np.testing.assert_array_equal(swept.metrics[name][3, j], x[member], err_msg=name)


def test_final_return_is_a_greedy_evaluation_of_the_members_policy(swept):
    trainer, state = swept.agent(4, 1)
    returns = jaxrl.evaluate(trainer, state, jax.random.key(77), episodes=256).returns
    error = returns.std() / np.sqrt(256) + returns.std() / np.sqrt(programs.FINAL_EPISODES)
    assert abs(returns.mean() - swept.final_return[4, 1]) < 4 * error + 1e-6
    assert np.unique(swept.final_return).size > 6  # members differ


def test_the_best_configuration(swept):
    means = swept.final_return.mean(1)
    assert means[swept.best()] == means.max()
    assert np.isnan(swept.interval(swept.best())).all()  # of two seeds


SMALL = {"config": {"updates_per_iteration": 16}, "preset": "none", "total_steps": 500, "seeds": 2}


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        ({"learning_rate": [0.1, 0.5]}, 1),
        ({"learning_rate": [0.1, 0.5], "env.max_steps_in_episode": [20, 50]}, 1),
        ({"learning_rate": [0.1, 0.5], "num_envs": [1, 2]}, 2),
    ],
)
def test_programs_compiled(grid, expected, monkeypatch):
    """A traced grid is one program, each other static value one more: counted where programs are compiled."""
    compiled = []
    lower = programs.make_chunk

    def counted(trainer):
        compiled.append(trainer)
        return lower(trainer)

    monkeypatch.setattr(programs, "make_chunk", counted)
    result = jaxrl.sweep("q_learning", "FrozenLake-misc", grid=grid, **SMALL)
    assert result.plan.programs == len(compiled) == expected


@pytest.mark.exact
def test_members_that_do_not_fit_run_in_waves_of_one_shape(swept):
    """Under half of the memory of three members at once: waves, one program each as before, and the same bits."""
    limit = swept.plan.bytes * 2 // 3
    waved = jaxrl.sweep("reinforce", "CartPole-v1", grid=GRID, seeds=2, seed=5, memory_limit=limit, **SETTINGS)
    assert waved.plan.programs == 2 and waved.plan.bytes <= limit
    assert all(len(program.waves(0)) > 1 for program in waved.plan.program_list)
    for name, x in swept.metrics.items():
        np.testing.assert_array_equal(waved.metrics[name], x, err_msg=name)
    np.testing.assert_array_equal(waved.final_return, swept.final_return)


@pytest.mark.parametrize("members", [1, 2, 3, 5, 8, 9, 64, 100])
@pytest.mark.parametrize("most", [1, 2, 3, 7, 64])
def test_waves_are_equal_hold_everyone_and_are_as_few_as_can_be(members, most):
    """Beside every layout that there is."""
    layout = plans._wave_layout(members, most)
    assert layout.members == layout.padded == layout.width <= most and layout.width % layout.devices == 0
    widths = [Layout.over_all_devices(share).padded for share in range(1, members + 1)]
    assert -(-members // layout.width) == min(-(-members // width) for width in widths if width <= most)


def test_a_member_that_does_not_fit_at_all_is_refused():
    with pytest.raises(ValueError, match="one member does not fit the memory limit of 10 KB"):
        jaxrl.sweep("reinforce", "CartPole-v1", grid={"gamma": [0.9, 0.99]}, seeds=2, memory_limit=10_000, **SETTINGS)


def test_a_diverged_member_is_flagged_and_disturbs_no_other():
    """A step size of 10³⁰ overflows; the members beside it are those of a sweep without it."""
    wild = jaxrl.sweep("dqn", "CartPole-v1", grid={"learning_rate": [1e-3, 1e30]}, seeds=2, total_steps=600,
                       config=small_config("dqn"), preset="none")  # fmt: skip
    tame = jaxrl.sweep("dqn", "CartPole-v1", grid={"learning_rate": [3e-3, 1e-3]}, seeds=2, total_steps=600,
                       config=small_config("dqn"), preset="none")  # fmt: skip
    assert wild.diverged.tolist() == [[False, False], [True, True]]
    for name, x in wild.metrics.items():
        np.testing.assert_array_equal(x[0], tame.metrics[name][1], err_msg=name)
    assert wild.best() == 0


def test_programs_of_unequal_length_are_padded():
    """One and two environments make other iterations: floats NaN, counts 0, steps standing still behind the end."""
    result = jaxrl.sweep("q_learning", "FrozenLake-misc", grid={"num_envs": [1, 2]}, **SMALL)
    lengths = [result.agent(i, 0)[0].num_iterations for i in (0, 1)]
    assert lengths[0] > lengths[1]
    tail = {name: x[1, :, lengths[1] :] for name, x in result.metrics.items()}
    assert np.isnan(tail["episode_return"]).all() and (tail["episodes"] == 0).all() and not tail["diverged"].any()
    assert (tail["env_steps"] == result.agent(1, 0)[0].total_steps).all()


BAD = [
    ({"grid": {"learning_rte": [1.0]}}, "unknown setting of reinforce 'learning_rte'; nearest: learning_rate"),
    ({"grid": {}}, "a sweep needs something to vary"),
    ({"grid": {"gamma": []}}, "gamma has no values"),
    ({"grid": {"gamma": [0.9]}, "seeds": 0}, "seeds = 0 is out of range"),
    ({"grid": {"gamma": [0.9]}, "random": {"gamma": [0.9]}, "samples": 2}, "gamma is in the grid and random too"),
    ({"random": {"gamma": "uniform:0.9,1"}}, "samples"),
    ({"grid": {"gamma": [0.9]}, "samples": 3}, "nothing is random"),
    ({"random": {"num_envs": "log:1,8"}, "samples": 2}, "num_envs is static"),
    ({"grid": {"env.gravity": ["heavy"]}}, "env.gravity"),
    ({"grid": {"gamma": [0.9]}, "seed": 2**31 - 1}, "seed = 2147483647 is out of range"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_before_any_compile(words, message, monkeypatch):
    monkeypatch.setattr(programs.Programs, "chunk", property(lambda self: pytest.fail("compiled")))
    with pytest.raises(ValueError) as refused:
        jaxrl.sweep("reinforce", "CartPole-v1", **({"seeds": 2} | words), **SETTINGS)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "count"), [("4GB", 4_000_000_000), ("500mb", 500_000_000), ("1e6", 1_000_000), (" 1.5 KB", 1500)]
)
def test_bytes_as_written(text, count):
    assert memory.read_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-4GB", "0", "infGB", "nan"])
def test_bytes_that_are_none(text):
    with pytest.raises(ValueError, match="memory limit"):
        memory.read_bytes(text)


def test_draws_at_each_point_of_a_grid():
    base = resolve("reinforce", "CartPole-v1", preset="none")
    found, asked = search_space.configurations(base, {"gamma": "0.9,0.99"}, {"learning_rate": "log:1e-4,1e-2"}, 3, seed=1)
    assert [c["gamma"] for c in found] == [0.9] * 3 + [0.99] * 3
    assert [c["learning_rate"] for c in found[:3]] == [c["learning_rate"] for c in found[3:]]


@pytest.mark.exact
def test_one_two_and_eight_devices_give_the_same_bits():
    """Nine members and one of padding: five on each of this process's two; 5 after 5 on one; 2 on each of five of eight."""
    found = on_devices(sweep_of_nine, 1, 8)
    assert [row[1:3] for row in found] == [[2, 10], [1, 10], [5, 10]]
    assert len({row[0] for row in found}) == 1
    assert found[0][3] == found[1][3] == found[2][3]
