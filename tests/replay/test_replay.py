"""replay/ring.py and uniform.py against a list of rows, and what the compiled program does to the buffer."""

import functools
import math
import re

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from jaxrl.core.errors import InputError
from jaxrl.core.types import Transition
from jaxrl.replay import ring, uniform
from jaxrl.replay.ring import Bits

EXAMPLE = {"id": jnp.int32(0), "pair": jnp.zeros(2), "flag": jnp.bool_(False)}
push = jax.jit(ring.push)


@functools.partial(jax.jit, static_argnums=2)
def sample(replay, key, batch_size):
    return ring.take(replay.data, uniform.draw_slots(replay, key, batch_size))


def stored(obs, action, reward, terminated, truncated, next_obs, valid):
    return Transition(obs, (), action, reward, terminated, truncated, next_obs, (), valid)


def rollout(first_id, length, num_envs):
    """Transitions numbered from `first_id` up, every field a function of the number: leaves [T, N, ...]."""
    ids = first_id + np.arange(length * num_envs, dtype=np.int32).reshape(length, num_envs)
    return {"id": ids, "pair": np.stack([ids / 2, -ids], -1).astype(np.float32), "flag": ids % 3 == 0}


class Ring:
    """The model: a list of rows, of which the oldest is overwritten."""

    def __init__(self, rows, num_envs):
        self.ids, self.next, self.written = np.zeros((rows, num_envs), np.int32), 0, 0

    def push(self, ids):
        for row in ids:
            self.ids[self.next] = row
            self.next = (self.next + 1) % len(self.ids)
            self.written = min(self.written + 1, len(self.ids))

    def stored(self):
        return set(self.ids[: self.written].ravel().tolist())


@pytest.mark.parametrize(("num_envs", "changes"), [(3, {}), (2, {"pair": np.zeros((1, 2, 3), np.float32)})])
def test_rows_of_another_shape_are_refused(num_envs, changes):
    replay = ring.init(EXAMPLE, 10, 2, 1)
    with pytest.raises(InputError, match=r"push to the replay gives rows of shape \(.*\), expected \(2,.*\)"):
        ring.push(replay, rollout(0, 1, num_envs) | changes)


@pytest.mark.parametrize(
    ("capacity", "num_envs", "length", "rows"),
    [
        (10, 2, 1, 5),
        (11, 2, 1, 5),  # 5.5 rows
        (100, 3, 8, 32),  # 4.2 rollouts of 24 transitions: 4 · 8 rows
        (24, 3, 8, 8),
        (1, 1, 1, 1),
    ],
)
def test_capacity_is_rounded_down_to_whole_rollouts(capacity, num_envs, length, rows):
    replay = ring.init(EXAMPLE, capacity, num_envs, length)
    shapes = {name: (x.shape, x.dtype) for name, x in replay.data.items()}
    expected = {"id": ((rows, num_envs), jnp.int32), "pair": ((rows, num_envs, 2), jnp.float32)}
    assert shapes == expected | {"flag": ((rows, num_envs), jnp.bool_)}
    assert (replay.position, replay.filled) == (0, 0)


@pytest.mark.parametrize(("capacity", "num_envs", "length"), [(1, 2, 1), (23, 3, 8), (7, 1, 8)])
def test_a_buffer_too_small_for_one_rollout_is_refused(capacity, num_envs, length):
    with pytest.raises(InputError, match=f"replay_capacity = {capacity} .* {num_envs * length} transitions"):
        ring.init(EXAMPLE, capacity, num_envs, length)


@pytest.mark.parametrize(("capacity", "num_envs", "length"), [(1, 1, 1), (6, 2, 1), (7, 2, 3), (13, 1, 4), (40, 3, 2)])
@hypothesis.settings(max_examples=12, deadline=None, derandomize=True, database=None)
@hypothesis.given(pushes=st.integers(1, 12), seed=st.integers(0, 2**31 - 1))
def test_contents_and_samples_are_those_of_a_ring(capacity, num_envs, length, pushes, seed):
    replay = ring.init(EXAMPLE, capacity, num_envs, length)
    model = Ring(len(replay.data["id"]), num_envs)
    for i in range(pushes):
        steps = rollout(1 + i * length * num_envs, length, num_envs)
        replay = push(replay, steps)
        model.push(steps["id"])
    np.testing.assert_array_equal(replay.data["id"], model.ids)
    assert (replay.position, replay.filled) == (model.next, model.written)
    batch = jax.device_get(sample(replay, jax.random.key(seed), 64))
    assert set(batch["id"].tolist()) <= model.stored()
    np.testing.assert_array_equal(batch["pair"], np.stack([batch["id"] / 2, -batch["id"]], -1))
    np.testing.assert_array_equal(batch["flag"], batch["id"] % 3 == 0)


@pytest.mark.parametrize(
    ("pushes", "stored"),
    [
        (1, range(1, 7)),  # one row of 6: all that is written
        (3, range(1, 19)),
        (5, range(1, 31)),  # exactly full
        (7, range(13, 43)),  # the first two rows, 1 … 12, are overwritten
    ],
)
def test_samples_are_uniform_over_what_is_stored(pushes, stored):
    replay = ring.init(EXAMPLE, 30, 6, 1)
    for i in range(pushes):
        replay = push(replay, rollout(1 + 6 * i, 1, 6))
    draws = np.asarray(sample(replay, jax.random.key(0), 100_000)["id"])
    found = np.bincount(draws, minlength=max(stored) + 1)
    assert found[list(stored)].sum() == len(draws)
    assert scipy.stats.chisquare(found[list(stored)]).pvalue > 1e-4


def test_different_keys_give_different_batches():
    replay = push(ring.init(EXAMPLE, 100, 100, 1), rollout(1, 1, 100))
    batches = [tuple(sample(replay, jax.random.key(k), 32)["id"].tolist()) for k in (0, 0, 1)]
    assert batches[0] == batches[1] != batches[2]


def test_a_push_casts_to_the_storage_dtype():
    replay = ring.init({"obs": jnp.bool_(False)}, 4, 2, 1)
    replay = ring.push(replay, {"obs": jnp.array([[1.0, 0.0]])})
    assert replay.data["obs"].dtype == jnp.bool_
    np.testing.assert_array_equal(replay.data["obs"], [[True, False], [False, False]])


@pytest.mark.parametrize("shape", [(1,), (8,), (3, 3), (10, 10, 4)])
def test_booleans_are_packed_and_come_back(shape):
    size = math.prod(shape)
    replay = ring.init({"obs": jnp.zeros(shape, bool), "id": jnp.int32(0)}, 12, 2, 2)
    obs = np.random.default_rng(0).random((2, 2, *shape)) < 0.5
    ids = np.arange(4).reshape(2, 2)
    replay = push(replay, {"obs": obs.astype(np.float32), "id": ids})
    assert replay.data["obs"].packed.shape == (6, 2, -(-size // 8)) and replay.data["obs"].packed.dtype == jnp.uint8
    batch = sample(replay, jax.random.key(0), 50)
    assert batch["obs"].dtype == bool
    np.testing.assert_array_equal(batch["obs"], obs.reshape(4, *shape)[batch["id"]])
    np.testing.assert_array_equal(Bits.pack(jnp.array(obs), shape).unpack(), obs)


def test_bytes_of_a_breakout_transition():
    """Two observations of 400 bits, an action and a reward of 4 bytes, three flags: 2 · 50 + 8 + 3 = 111 bytes."""
    import jaxrl

    trainer = jaxrl.make_trainer("dqn", "Breakout-MinAtar", preset="none")
    replay = jax.eval_shape(trainer.init, jax.random.key(0)).agent.experience.replay
    total = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(replay.data))
    assert total / math.prod(replay.shape) == 111


def episode_steps(rng, length, num_envs, clock):
    """Rows of random flags and rewards; obs of time t and environment e is (t, e), next_obs the same with a mark."""
    t, e = clock + np.arange(length)[:, None] + np.zeros(num_envs), np.arange(num_envs) + np.zeros((length, 1))
    obs = np.stack([t, e, np.zeros_like(t)], -1).astype(np.float32)
    ends = rng.random((2, length, num_envs)) < 0.15
    reward = rng.normal(size=(length, num_envs)).astype(np.float32)
    action, valid = rng.integers(0, 4, (length, num_envs)), rng.random((length, num_envs)) < 0.9
    return stored(obs, action, reward, ends[0], ends[1], obs + np.float32([0, 0, 1]), valid)


def model_n_step(history, t, e, n, gamma):
    """(return, discount, time of the last step) from time t on in the list of all rows ever pushed."""
    ret = 0.0
    for k in range(n):
        row = history[t + k]
        ret += gamma**k * row.reward[e]
        if row.terminated[e]:
            return ret, 0.0, t + k
        if row.truncated[e]:
            break
    return ret, gamma ** (k + 1), t + k


@pytest.mark.parametrize(
    ("capacity", "num_envs", "length", "n"), [(7, 1, 1, 1), (12, 2, 1, 3), (24, 2, 3, 4), (40, 3, 2, 5)]
)
@hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
@hypothesis.given(pushes=st.integers(1, 14), seed=st.integers(0, 2**31 - 1))
def test_n_step_transitions_are_contiguous_stored_and_cut_at_ends(capacity, num_envs, length, n, pushes, seed):
    rng, gamma, history = np.random.default_rng(seed), 0.9, []
    flag = jnp.bool_(False)
    example = stored(jnp.zeros(3), jnp.int32(0), jnp.float32(0), flag, flag, jnp.zeros(3), flag)
    replay = ring.init(example, capacity, num_envs, length, n)
    for _ in range(pushes):
        steps = episode_steps(rng, length, num_envs, len(history))
        history += [jax.tree.map(lambda x, i=i: x[i], steps) for i in range(length)]
        replay = push(replay, steps)
    if len(history) < n:
        return  # agents do not sample so early
    slots, relative = jax.jit(uniform.sampler(64, n).sample)((), replay, jax.random.key(seed))
    batch = jax.device_get(jax.jit(ring.read_n_step, static_argnums=3)(replay, slots, gamma, n))
    np.testing.assert_array_equal(relative, 1)
    rows = replay.shape[0]
    for b in range(64):
        t, e = map(int, batch.obs[b][:2])
        assert max(0, len(history) - rows) <= t <= len(history) - n, "a slot not written, overwritten or not complete"
        ret, discount, last = model_n_step(history, t, e, n, gamma)
        np.testing.assert_allclose((batch.ret[b], batch.discount[b]), (ret, discount), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(batch.next_obs[b], [last, e, 1])  # the row's own next_obs, before any reset
        assert (batch.action[b], batch.valid[b]) == (history[t].action[e], history[t].valid[e])


def test_every_complete_window_is_drawn_alike():
    """8 rows of 2 environments, 11 pushed, n = 3: times 3 … 8 can begin a window, each twice."""
    flag, zero = jnp.bool_(False), jnp.float32(0)
    replay = ring.init(stored(jnp.zeros(3), jnp.int32(0), zero, flag, flag, jnp.zeros(3), flag), 16, 2, 1, 3)
    rng = np.random.default_rng(0)
    for t in range(11):
        replay = push(replay, episode_steps(rng, 1, 2, t))
    slots, _ = jax.jit(uniform.sampler(60_000, 3).sample)((), replay, jax.random.key(0))
    times, envs = np.asarray(ring.take(replay.data.obs, slots))[:, :2].T.astype(int)
    found = np.bincount(times * 2 + envs, minlength=22)
    assert found[: 3 * 2].sum() == found[9 * 2 :].sum() == 0
    assert scipy.stats.chisquare(found[6:18]).pvalue > 1e-4


def test_a_ring_without_room_for_n_steps_is_refused():
    with pytest.raises(InputError, match="n_step = 5"):
        ring.init(EXAMPLE, 10, 2, 1, 5)


SHAPE = (1000, 4, 10)  # of the buffer in the compiled programs below


def whole_buffer_ops(program, members, *args):
    """Names of instructions that write a second array as large as the buffer of all members, in the compiled program."""
    if members > 1:
        program = jax.vmap(program)
        args = jax.tree.map(lambda x: jnp.stack([x] * members), args)
    text = jax.jit(program, donate_argnums=0).lower(*args).compile().as_text()
    found = re.findall(r"= f32\[([\d,]+)\]\S* ([\w-]+)\(", text)
    large = {op for dims, op in found if math.prod(map(int, dims.split(","))) == members * math.prod(SHAPE)}
    return large & {"copy", "copy-start", "select", "transpose", "concatenate", "broadcast"}


def pushed_and_sampled(replay, steps, key):
    replay = ring.push(replay, steps)
    return replay, sample(replay, key, 32)


def many_pushed_and_sampled(replay, steps, key):
    def one(carry, key):
        carry, batch = pushed_and_sampled(carry, steps, key)
        return carry, jax.tree.map(jnp.mean, batch)

    return jax.lax.scan(one, replay, jax.random.split(key, 5))


def gated(replay, steps, key):
    """What the module warns of: a buffer passed through `where`."""
    after, batch = pushed_and_sampled(replay, steps, key)
    return jax.tree.map(lambda a, b: jnp.where(batch.sum() > 0, a, b), after, replay), batch


def program_args():
    replay = ring.init(jnp.zeros(SHAPE[2]), SHAPE[0] * SHAPE[1], SHAPE[1], 2)
    assert replay.data.shape == SHAPE
    return replay, jnp.ones((2, *SHAPE[1:])), jax.random.key(0)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("program", [pushed_and_sampled, many_pushed_and_sampled])
def test_the_compiled_program_never_copies_the_buffer(program, members):
    assert whole_buffer_ops(program, members, *program_args()) == set()


@pytest.mark.parametrize("members", [1, 3])
def test_the_check_for_copies_finds_one(members):
    assert "select" in whole_buffer_ops(gated, members, *program_args())
