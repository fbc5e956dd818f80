"""networks/memory.py: acting is an unroll of length one, episodes and environments do not mix, and NumPy loops agree."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box, Discrete
from jaxrl.networks.memory import GRU, LSTM, Transformer, peek
from jaxrl.networks.torsos import Layers, SequenceTorso, Torso, torso_of

T, N, INPUTS = 10, 5, 3  # T is no multiple of the window
CORES = {
    "gru": GRU(8),
    "lstm": LSTM(8),
    "transformer": Transformer(8, num_layers=2, num_heads=2, window=4),
    "farsighted": Transformer(8, num_layers=1, num_heads=1, window=6),  # further than half the unroll
    "nearsighted": Transformer(8, num_layers=1, num_heads=2, window=1),
}
each_core = pytest.mark.parametrize("name", list(CORES))


def scaled(tree, seed, scale):
    """Random numbers in place of a tree's floats; its integers kept."""
    rng = np.random.default_rng(seed)
    leaf = lambda x: x if x.dtype == jnp.int32 else jnp.array(scale * rng.normal(size=x.shape), x.dtype)  # noqa: E731
    return jax.tree.map(leaf, tree)


@functools.cache
def example(name):
    """(apply, params, memory in mid-episode, x [T, N, INPUTS], first [T, N]); parameters random, biases too."""
    core, rng = CORES[name], np.random.default_rng(0)
    x, first = jnp.array(rng.normal(size=(T, N, INPUTS)), jnp.float32), rng.random((T, N)) < 0.2
    first[0], first[5:7, 2], first[:, 4] = [True, False, False, False, False], True, False
    first = jnp.array(first)
    params = scaled(jax.eval_shape(core.init, jax.random.key(0), core.initial(N), x, first), 1, 0.5)
    apply = jax.jit(core.apply)
    _, memory = apply(params, core.initial(N), x[::-1], jnp.zeros_like(first))
    return apply, params, memory, x, first


def assert_same(name, actual, expected):
    """Recurrent cores bit for bit. A product's rounding depends on its shape: the Transformer's, taken over T, is close."""
    compare = np.testing.assert_array_equal
    if isinstance(CORES[name], Transformer):
        compare = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(compare, actual, expected)


@each_core
def test_stepping_and_split_unrolls_are_the_unroll(name):
    apply, params, memory, x, first = example(name)
    expected, last = apply(params, memory, x, first)
    assert expected.shape == (T, N, 8) and expected.dtype == jnp.float32
    for sizes in ([1] * T, [T // 2] * 2):
        carried, parts = memory, []
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            y, carried = apply(params, carried, x[end - size : end], first[end - size : end])
            parts.append(y)
        assert_same(name, (jnp.concatenate(parts), carried), (expected, last))


@each_core
def test_a_first_step_sees_the_initial_memory(name):
    """After `first` nothing depends, in any bit, on what was before, be it in the memory or in the unroll."""
    apply, params, memory, x, first = example(name)
    start = 6
    first = first.at[start].set(True)
    clean = apply(params, CORES[name].initial(N), x, first)
    poisoned = apply(params, scaled(memory, 2, 1e15), x.at[:start].multiply(-1e10), first)
    np.testing.assert_array_equal(clean[0][start:], poisoned[0][start:])
    jax.tree.map(np.testing.assert_array_equal, clean[1], poisoned[1])
    assert not np.array_equal(clean[0][:start], poisoned[0][:start])
    step = jnp.ones((1, N), bool)
    expected = apply(params, CORES[name].initial(N), x[:1], step & False)
    jax.tree.map(np.testing.assert_array_equal, apply(params, memory, x[:1], step), expected)


@each_core
def test_environments_do_not_mix(name):
    apply, params, memory, x, first = example(name)
    others = np.arange(N) != 1
    changed = jax.tree.map(lambda m: m.at[1].set(m[0]), memory)
    clean = apply(params, memory, x, first)
    poisoned = apply(params, changed, x.at[:, 1].multiply(-1e3), first.at[:, 1].set(~first[:, 1]))
    np.testing.assert_array_equal(clean[0][:, others], poisoned[0][:, others])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[others], b[others]), clean[1], poisoned[1])
    assert not np.array_equal(clean[0][:, 1], poisoned[0][:, 1])


@pytest.mark.parametrize("name", list(CORES)[:-1])
def test_gradients_reach_as_far_back_as_the_memory_and_not_across_episodes(name):
    """∂y[t] / ∂x[s] ≠ 0 just where s ≤ t are of one episode and, for L layers, t - s ≤ L (window - 1)."""
    apply, params, memory, x, _ = example(name)
    core, start = CORES[name], 8
    first = jnp.zeros((T, 1), bool).at[start].set(True)
    alone = jax.tree.map(lambda m: m[:1], memory)
    slope = jax.jacrev(lambda m, x: apply(params, m, x, first)[0][:, 0, 0], (0, 1), allow_int=True)
    by_memory, by_x = jax.tree.map(np.asarray, jax.jit(slope)(alone, x[:, :1]))
    reach = core.window - 1 if isinstance(core, Transformer) else T  # of one layer
    layers = core.num_layers if isinstance(core, Transformer) else 1
    offset, episode = np.arange(T)[:, None] - np.arange(T), np.arange(T) >= start
    expected = (offset >= 0) & (offset <= layers * reach) & (episode[:, None] == episode)
    np.testing.assert_array_equal(np.abs(by_x).max((2, 3)) > 0, expected)
    kinds = by_memory[:2] if isinstance(core, Transformer) else [[g] for g in jax.tree.leaves(by_memory)]
    for i, of_layer in enumerate(zip(*kinds, strict=True)):
        for g in of_layer:
            remembers = np.abs(g).reshape(T, -1).max(1, initial=0) > 0
            np.testing.assert_array_equal(remembers, np.arange(T) < min(start, (layers - i) * reach))


# The cores by hand, one row of one environment at a time.


def dense(p, x):
    return x @ p["kernel"] + p.get("bias", 0.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(p, memory, x, first):
    c, h = p["cell"], memory[0] * (not first)
    r, z = (sigmoid(dense(c["i" + g], x) + dense(c["h" + g], h)) for g in "rz")
    h = (1 - z) * np.tanh(dense(c["in"], x) + r * dense(c["hn"], h)) + z * h
    return h, (h,)


def lstm_step(p, memory, x, first):
    p, (c, h) = p["cell"], (m * (not first) for m in memory)
    i, f, g, o = (dense(p["i" + k], x) + dense(p["h" + k], h) for k in "ifgo")
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return h, (c, h)


def normalised(p, x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * p["scale"] + p["bias"]


def transformer_step(core, p, memory, x, first):
    """memory: a list a layer of the episode's (key, value), all of them."""
    memory = [[] if first else list(layer) for layer in memory]
    x = dense(p["Dense_0"], x)
    for i, layer in enumerate(memory):
        b, heads = p[f"_Block_{i}"], core.num_heads
        q, k, v = dense(b["Dense_0"], normalised(b["LayerNorm_0"], x)).reshape(3, heads, -1)
        layer.append((k, v))
        seen, attended = layer[-core.window :], []
        for h in range(heads):
            scores = np.array([q[h] @ k[h] for k, _ in seen]) / len(q[h]) ** 0.5 + b["bias"][h, core.window - len(seen) :]
            weights = np.exp(scores) / np.exp(scores).sum()
            attended.append(sum(w * v[h] for w, (_, v) in zip(weights, seen, strict=True)))
        x = x + dense(b["Dense_1"], np.concatenate(attended))
        hidden = np.maximum(dense(b["Dense_2"], normalised(b["LayerNorm_1"], x)), 0)
        x = x + dense(b["Dense_3"], hidden)
    return normalised(p["LayerNorm_0"], x), memory


@each_core
def test_against_numpy(name):
    """From an empty memory; the first step says so for only one of the environments."""
    apply, params, _, x, first = example(name)
    core = CORES[name]
    if isinstance(core, Transformer):
        step, initial = functools.partial(transformer_step, core), [[]] * core.num_layers
    else:
        step, initial = (gru_step if name == "gru" else lstm_step), [np.zeros(8)] * 2
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    y, last = apply(params, core.initial(N), x, first)
    for n in range(N):
        memory = initial
        for t in range(T):
            expected, memory = step(p, memory, np.asarray(x[t, n], np.float64), first[t, n])
            np.testing.assert_allclose(y[t, n], expected, rtol=1e-4, atol=1e-4)
        if isinstance(core, Transformer):
            assert last.filled[n] == min(len(memory[0]), core.window - 1)
            if core.window > 1:
                np.testing.assert_allclose(last.keys[-1][n, -1], memory[-1][-1][0], rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_allclose(np.stack(jax.tree.leaves(last))[:, n], memory, rtol=1e-4, atol=1e-5)


# The torso.


@pytest.mark.parametrize("space", [Box((4,)), Discrete(3), Box((10, 8, 6), dtype=jnp.bool_)], ids=str)
@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_sequence_torso_is_encoder_then_core(space, name):
    torso = SequenceTorso(space, name, (7, 12), window=4)
    memory = torso.initial(2)
    assert torso.remembers and all(len(leaf) == 2 for leaf in jax.tree.leaves(memory))
    assert jax.tree.leaves(memory) and not any(leaf.weak_type for leaf in jax.tree.leaves(memory))
    obs, first = jnp.zeros((3, 2, *space.shape), space.dtype), jnp.zeros((3, 2), bool)
    (features, after), params = jax.eval_shape(torso.init_with_output, jax.random.key(0), memory, obs, first)
    assert features.shape == (3, 2, 12) and features.dtype == jnp.float32
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert described(memory) == described(after)
    encoder = jax.eval_shape(Torso(space, "auto", (7,)).init, jax.random.key(0), obs)
    assert described(params["params"]["Torso_0"]) == described(encoder["params"])


@pytest.mark.parametrize("batch", [(), (3,), (3, 2)])
def test_without_a_memory_it_is_the_torso(batch):
    layers = Layers(jnp.tanh)
    ours, torso = SequenceTorso(Box((4,)), "mlp", (7, 5), layers), Torso(Box((4,)), "mlp", (7, 5), layers)
    obs = jax.random.normal(jax.random.key(0), (*batch, 4))
    assert ours.initial(2) == () and not ours.remembers
    params = scaled(jax.eval_shape(ours.init, jax.random.key(1), (), obs), 0, 0.5)
    features, memory = ours.apply(params, (), obs)
    assert memory == ()
    np.testing.assert_array_equal(features, torso.apply({"params": params["params"]["Torso_0"]}, obs))


@pytest.mark.parametrize(
    ("name", "hidden_sizes", "message"),
    [
        ("gru", (), "gru needs hidden_sizes"),
        ("lstm", (), "lstm needs hidden_sizes"),
        ("transformer", (), "transformer needs hidden_sizes"),
        ("transformer", (8, 6), "among 4 heads; 6 does not divide"),
        ("minatar", (8,), "minatar needs images"),
    ],
)
def test_a_torso_that_cannot_be_made_is_refused(name, hidden_sizes, message):
    with pytest.raises(InputError, match=message):
        torso_of(name, Box((4,)), hidden_sizes)


@pytest.mark.parametrize("name", ["gru", "lstm", "transformer"])
def test_initialising_many_calls_no_library(name):
    """A vmapped QR deadlocks XLA on CPU; flax's own cells have one."""
    torso = SequenceTorso(Box((4,)), name, (8, 8))
    obs, first = jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), bool)
    init = jax.jit(jax.vmap(lambda key: torso.init(key, torso.initial(1), obs, first)))
    assert "custom_call" not in init.lower(jax.random.split(jax.random.key(0), 2)).as_text()


def test_recurrent_kernels_begin_orthogonal():
    core, x = CORES["gru"], jnp.zeros((1, 1, INPUTS))
    cell = jax.jit(core.init)(jax.random.key(0), core.initial(1), x, jnp.zeros((1, 1), bool))["params"]["cell"]
    kernels = np.stack([cell["h" + gate]["kernel"] for gate in "rzn"])
    expected = np.broadcast_to(np.eye(8), kernels.shape)
    np.testing.assert_allclose(kernels @ kernels.swapaxes(1, 2), expected, atol=1e-5)


def test_the_check_for_libraries_finds_what_it_looks_for():
    cell = nn.GRUCell(8)
    init = jax.jit(jax.vmap(lambda key: cell.init(key, jnp.zeros(8), jnp.zeros(4))))
    assert "custom_call" in init.lower(jax.random.split(jax.random.key(0), 2)).as_text()


# peek


def test_peek_by_hand():
    """The memory adds up the episode's observations; out is that sum, the peeked observation included."""

    def apply(memory, obs, first):
        total = jnp.where(first[0], 0.0, memory) + obs["x"][0]
        return {"sum": total[None]}, total

    obs, next_obs = jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[10.0], [20.0], [40.0]])
    first = jnp.array([[False], [False], [True]])
    out = peek(apply, jnp.array([100.0]), {"x": obs}, first, {"x": next_obs})
    np.testing.assert_array_equal(out["sum"], [[111.0], [123.0], [44.0]])


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_within_an_episode_peek_is_the_unroll_one_step_later(name):
    apply, params, memory, x, first = example(name)
    ahead = jax.jit(lambda *args: peek(functools.partial(apply, params), *args))(memory, x[:-1], first[:-1], x[1:])
    y, _ = apply(params, memory, x, first)
    np.testing.assert_allclose(ahead[~first[1:]], y[1:][~first[1:]], rtol=1e-5, atol=1e-5)
    assert np.abs(ahead - y[1:])[first[1:]].min(0).max() > 1e-3  # where an episode began, they must differ
