"""ops/distributions.py: distributions over integers and joint ones, against scipy. For boxes: test_box_distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxrl.core.spaces import Box, Discrete, MultiDiscrete, Product
from jaxrl.ops.distributions import Beta, Categorical, Gaussian, Joint, MultiCategorical, SquashedGaussian

LOGITS = [
    [0.0, 0.0, 0.0, 0.0],
    [1.0, -2.0, 0.5],
    [3.0],
    [30.0, 29.0, -30.0],
    list(np.random.default_rng(0).normal(size=18) * 5),
]
SIZES = (3, 1, 4)
BOX = Box((2, 2), ((-1.0, -2.0), (0.0, 10.0)), ((1.0, 3.0), (0.5, 20.0)))
BATCH = 5


def chi_square_p(counts, probs):
    return scipy.stats.chisquare(counts, counts.sum() * probs / probs.sum()).pvalue


@jax.jit
def everything(policy, other, x):
    return policy.log_prob(x), policy.entropy(), policy.kl(other), policy.mode()


@jax.jit
def draw(policy, key):
    return policy.sample_and_log_prob(key)


def a_joint(seed, batch):
    """Over a dict that holds a tuple, with random parameters."""
    space = Product.of(turn=Discrete(3), arm=Product((MultiDiscrete(SIZES), BOX)), gas=Box(()))
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.array(rng.normal(size=(*batch, *shape)), jnp.float32)

    arm = Joint(
        (MultiCategorical(normal(sum(SIZES)), SIZES), SquashedGaussian(normal(4), normal(4) / 2, BOX)), space.spaces[1]
    )
    return Joint((Categorical(normal(3)), arm, Gaussian(normal(1), normal(1), Box(()))), space)


def a_beta(seed, batch):
    rng = np.random.default_rng(seed)
    alpha, beta = (jnp.array(1.5 + rng.exponential(size=(*batch, 4)), jnp.float32) for _ in range(2))
    return Beta(alpha, beta, BOX)


@pytest.mark.parametrize("logits", LOGITS)
def test_categorical(logits):
    policy = scipy.stats.rv_discrete(values=(np.arange(len(logits)), scipy.special.softmax(np.array(logits, np.float64))))
    actions = jnp.arange(len(logits))
    found = Categorical(jnp.broadcast_to(jnp.array(logits), (len(logits), len(logits))))
    np.testing.assert_allclose(found.log_prob(actions), policy.logpmf(np.arange(len(logits))), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy(), np.full(len(logits), policy.entropy()), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.mode(), np.argmax(logits))
    other = np.linspace(-1, 1, len(logits))
    expected = scipy.stats.entropy(scipy.special.softmax(logits), scipy.special.softmax(other))
    np.testing.assert_allclose(Categorical(jnp.array(logits)).kl(Categorical(jnp.array(other))), expected, rtol=1e-5)


def test_adding_a_constant_changes_nothing_and_large_logits_do_not_overflow():
    """log softmax of (1000, 0) is (0, -1000) to within e⁻¹⁰⁰⁰; the entropy of a certain action is 0."""
    logits = jnp.array([1000.0, 0.0])
    found = [Categorical(logits).log_prob(jnp.int32(a)) for a in (0, 1)]
    np.testing.assert_allclose(found, [0.0, -1000.0])
    assert Categorical(logits).entropy() == 0.0
    np.testing.assert_allclose(Categorical(logits - 1000).entropy(), Categorical(logits).entropy())


def test_categorical_gradients():
    """∇ log π(a) = 1[a] - π, ∇H = -π (log π + H), and ∇ KL(p ‖ π) = π - p."""
    logits = np.array([0.3, -1.0, 2.0])
    probs, log_probs = scipy.special.softmax(logits), scipy.special.log_softmax(logits)
    x = jnp.array(logits)
    slope = jax.grad(lambda x: Categorical(x).log_prob(jnp.int32(1)))(x)
    np.testing.assert_allclose(slope, np.array([0, 1, 0]) - probs, rtol=1e-5, atol=1e-6)
    expected = -probs * (log_probs + scipy.stats.entropy(probs))
    np.testing.assert_allclose(jax.grad(lambda x: Categorical(x).entropy())(x), expected, rtol=1e-4, atol=1e-6)
    slope = jax.grad(lambda x: Categorical(jnp.zeros(3)).kl(Categorical(x)))(x)
    np.testing.assert_allclose(slope, probs - 1 / 3, rtol=1e-5, atol=1e-6)


def test_forbidden_actions_are_never_drawn_and_count_for_nothing():
    """(-inf, 0.3, -1, -inf) is (0.3, -1) with two actions more: the same entropy and KL, and zero gradients for them."""
    logits, other = jnp.array([-jnp.inf, 0.3, -1.0, -jnp.inf]), jnp.array([-jnp.inf, 1.0, 0.0, -jnp.inf])
    policy, allowed = Categorical(logits), Categorical(logits[1:3])
    draws = Categorical(jnp.broadcast_to(logits, (1000, 4))).sample(jax.random.key(0))
    assert set(np.unique(draws)) == {1, 2}
    assert policy.log_prob(jnp.int32(0)) == -jnp.inf
    np.testing.assert_allclose(policy.entropy(), allowed.entropy())
    np.testing.assert_allclose(policy.kl(Categorical(other)), allowed.kl(Categorical(other[1:3])))
    assert policy.kl(Categorical(jnp.array([0.0, -jnp.inf, 0.0, 0.0]))) == jnp.inf  # π allows what the other forbids

    def everything(x):
        d = Categorical(x)
        return d.entropy() + d.log_prob(jnp.int32(1)) + d.kl(Categorical(other)) + Categorical(other).kl(d)

    slope = np.asarray(jax.grad(everything)(logits))
    assert np.isfinite(slope).all() and (slope[[0, 3]] == 0).all() and (slope[[1, 2]] != 0).all()


def test_multi_categorical_is_its_parts():
    rng = np.random.default_rng(1)
    policy, other = (MultiCategorical(jnp.array(rng.normal(size=(BATCH, sum(SIZES)))), SIZES) for _ in range(2))
    x = np.random.default_rng(2).integers(0, SIZES, (BATCH, 3))
    splits = np.cumsum(SIZES)[:-1]
    ps, qs = (
        [scipy.special.softmax(y, -1) for y in np.split(np.array(d.logits, float), splits, -1)] for d in (policy, other)
    )
    log_prob = sum(np.log(p[np.arange(BATCH), x[:, i]]) for i, p in enumerate(ps))
    found = everything(policy, other, jnp.array(x))
    np.testing.assert_allclose(found[0], log_prob, rtol=1e-5)
    np.testing.assert_allclose(found[1], sum(scipy.stats.entropy(p, axis=-1) for p in ps), rtol=1e-5)
    kl = sum(scipy.stats.entropy(p, q, axis=-1) for p, q in zip(ps, qs, strict=True))
    np.testing.assert_allclose(found[2], kl, rtol=1e-5)
    np.testing.assert_array_equal(found[3], np.stack([p.argmax(-1) for p in ps], -1))


def test_discrete_draws_have_the_right_frequencies():
    """χ² over all 3 · 1 · 4 joint outcomes, so that it sees dependence between the parts; and over a categorical's."""
    logits = np.random.default_rng(0).normal(size=sum(SIZES)).astype(np.float32)
    many = MultiCategorical(jnp.broadcast_to(logits, (20_000, sum(SIZES))), SIZES)
    x, log_prob = many.sample_and_log_prob(jax.random.key(3))
    assert x.dtype == jnp.int32 and x.shape == (20_000, 3)
    np.testing.assert_array_equal(log_prob, many.log_prob(x))
    counts = np.bincount(np.ravel_multi_index(np.asarray(x).T, SIZES), minlength=12)
    every = np.stack(np.unravel_index(np.arange(12), SIZES), -1)
    probs = np.exp(jax.tree.map(lambda x: x[:12], many).log_prob(jnp.array(every)), dtype=np.float64)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-6)
    assert chi_square_p(counts, probs) > 0.01
    x = Categorical(many.logits[:, :3]).sample(jax.random.key(4))
    probs = scipy.special.softmax(np.array(logits[:3], float))
    assert x.dtype == jnp.int32 and chi_square_p(np.bincount(x), probs) > 0.01


def test_joint_is_the_sum_of_its_parts():
    policy, other = a_joint(0, (BATCH,)), a_joint(1, (BATCH,))
    x, drawn_log_prob = draw(policy, jax.random.key(0))
    assert jax.vmap(policy.space.contains)(x).all()
    leaves = [policy.parts[0], *policy.parts[1].parts, policy.parts[2]]
    others = [other.parts[0], *other.parts[1].parts, other.parts[2]]
    actions = [x["turn"], *x["arm"], x["gas"]]
    parts = [everything(*args) for args in zip(leaves, others, actions, strict=True)]
    log_prob, entropy, kl, mode = everything(policy, other, x)
    for found, expected in zip((log_prob, entropy, kl), zip(*(p[:3] for p in parts), strict=True), strict=True):
        np.testing.assert_allclose(found, sum(expected), rtol=1e-5)
    np.testing.assert_allclose(drawn_log_prob, log_prob, rtol=1e-3)
    for found, part in zip([mode["turn"], *mode["arm"], mode["gas"]], parts, strict=True):
        np.testing.assert_array_equal(found, part[3])


def test_parts_of_a_joint_draw_independently():
    uniform = Gaussian(jnp.zeros((1000, 1)), jnp.zeros((1000, 1)), Box(()))
    x, y = Joint((uniform, uniform), Product((Box(()), Box(())))).sample(jax.random.key(0))
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1


@pytest.mark.parametrize(
    "make", [lambda seed: a_joint(seed, (2, 3)), lambda seed: a_beta(seed, (2, 3))], ids=["joint", "beta"]
)
def test_batches_vmapped_and_reshaped(make):
    """One distribution of a [2, 3] batch is six; the joint has all families but beta among its parts."""
    policy, other = make(0), make(1)
    x = other.mode()

    def equal(found, expected):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)

    expected = everything(policy, other, x)
    assert expected[0].shape == expected[1].shape == expected[2].shape == (2, 3)
    equal(jax.vmap(jax.vmap(everything))(policy, other, x), expected)

    def reverse(tree):
        return jax.tree.map(lambda x: x.reshape(6, *x.shape[2:])[::-1], tree)

    equal(everything(*map(reverse, (policy, other, x))), reverse(expected))
    draws = jax.eval_shape(jax.vmap(draw), reverse(policy), jax.random.split(jax.random.key(1), 6))[0]
    assert jax.tree.map(jnp.shape, draws) == jax.tree.map(jnp.shape, reverse(x))
