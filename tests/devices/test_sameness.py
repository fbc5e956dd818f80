"""The last bits of a number on CPU must not depend on the size of the array it lies in, under users' flags."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.devices.layout import Layout
from jaxrl.runs import checkpoint
from tests.small import AS_USERS, NEARLY, assert_trees_equal, root_keys, small_trainer

WIDE = 1024
FUNCTIONS = {
    "exp": jnp.exp,
    "log": lambda x: jnp.log(jnp.abs(x)),
    "rsqrt": lambda x: jax.lax.rsqrt(jnp.abs(x)),
    "tanh": jnp.tanh,
    "sin": jnp.sin,
    "cos": jnp.cos,
}


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=WIDE).astype(np.float32) * 2


@pytest.mark.exact
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_rounds_alike_in_arrays_of_every_size(numbers, name):
    """Chunks of 1 to 33 numbers against 1024 at once: those of 3, 5, 6 and 7 differed with the tiled emitter."""
    program = jax.jit(FUNCTIONS[name], compiler_options=AS_USERS)
    whole = np.asarray(program(numbers))
    for size in (1, 3, 5, 6, 7, 13, 33):
        chunks = [program(numbers[i : i + size]) for i in range(0, 8 * size, size)]
        np.testing.assert_array_equal(np.concatenate(chunks), whole[: 8 * size], err_msg=f"{size} at a time")


@pytest.mark.exact
def test_arctan_is_right(numbers):
    """With vectors of 512 bits it was off by 1.4 (jaxlib 0.10). Oracle: NumPy in float64."""
    found = jax.jit(jnp.arctan, compiler_options=AS_USERS)(numbers)
    np.testing.assert_allclose(found, np.arctan(numbers.astype(np.float64)), rtol=1e-6)


# The agents that those of SPREAD in test_agent_contract leave out.
WORK = {"ppo": "Acrobot-v1", "a2c": "Acrobot-v1", "dqn": "Acrobot-v1", "sac": "Pendulum-v1", "td3": "Pendulum-v1"}


@pytest.mark.exact
@pytest.mark.parametrize("agent", WORK)
def test_a_members_bits_depend_neither_on_the_width_nor_on_devices_in_dynamics_of_sines(agent):
    """Seeds 0 to 2 on two devices, two on one of them, and among 33: what they learnt and where they are, their episodes.

    One is compiled wholly as users' programs are, which takes half as long again.
    Means over minibatches that are only reported (loss, q_value) may differ in their last digits.
    `python -m benchmarks run sameness` compares every width, for longer.
    """
    trainer = small_trainer(agent, WORK[agent], total_steps=600)

    def numbers(layout):
        train = layout.map(trainer.train).lower(layout.pad(root_keys(layout.members)))
        options = AS_USERS if agent == "ppo" else NEARLY
        state, metrics = train.compile(compiler_options=options)(layout.pad(root_keys(layout.members)))
        episodes = metrics["episode_return"], metrics["episode_length"]
        return jax.tree.map(lambda x: x[:3], checkpoint.to_host((state.agent, state.env, episodes)))

    assert_trees_equal(numbers(Layout(3, 2)), numbers(Layout(33, 1)))
