"""The box distributions of ops/distributions.py against scipy, and numpy in float64 where scipy lacks a family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.core.errors import InputError
from jaxrl.core.spaces import Box
from jaxrl.ops.distributions import Beta, Gaussian, SquashedGaussian

BOX = Box((2, 2), ((-1.0, -2.0), (0.0, 10.0)), ((1.0, 3.0), (0.5, 20.0)))
LOW, HIGH = (np.array(b).reshape(-1) for b in (BOX.low, BOX.high))
UNIT = Box((), -1.0, 1.0)
FAMILIES = ["gaussian", "squashed_gaussian", "beta"]
BATCH = 5


@jax.jit
def everything(policy, other, x):
    return policy.log_prob(x), policy.entropy(), policy.kl(other), policy.mode()


@jax.jit
def draw(policy, key):
    return policy.sample_and_log_prob(key)


class Squashed:
    """The distribution of (low + high)/2 + (high - low)/2 · tanh(u), u normal, by change of variables in float64."""

    def __init__(self, mean, std, low, high):
        self.normal, self.centre, self.half = scipy.stats.norm(mean, std), (low + high) / 2, (high - low) / 2

    def logpdf(self, x):
        y = (x - self.centre) / self.half
        return self.normal.logpdf(np.arctanh(y)) - np.log(1 - y**2) - np.log(self.half)

    def cdf(self, x):
        return self.normal.cdf(np.arctanh((x - self.centre) / self.half))

    def ppf(self, q):
        return self.centre + self.half * np.tanh(self.normal.ppf(q))


def over_box(name, seed=0, batch=BATCH):
    """A distribution over BOX with random parameters [batch, 4], and its marginals [batch, 4] in float64."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(batch, 4)).astype(np.float32), (rng.normal(size=(batch, 4)) / 2).astype(np.float32)
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    if name == "gaussian":
        return Gaussian(jnp.array(a), jnp.array(b), BOX), scipy.stats.norm(a64, np.exp(b64))
    if name == "squashed_gaussian":
        return SquashedGaussian(jnp.array(a), jnp.array(b), BOX), Squashed(a64, np.exp(b64), LOW, HIGH)
    a, b = 1 + np.exp(a), 1 + np.exp(2 * b)
    return Beta(jnp.array(a), jnp.array(b), BOX), scipy.stats.beta(a.astype(float), b.astype(float), LOW, HIGH - LOW)


def expectation(marginal, f):
    """E[f(x)], x [nodes, batch, 4] through the quantile function, by the trapezoidal rule over a normal."""
    z = np.linspace(-7.0, 7.0, 2001)
    weights = scipy.stats.norm.pdf(z) / scipy.stats.norm.pdf(z).sum()
    return np.tensordot(weights, f(marginal.ppf(scipy.stats.norm.cdf(z)[:, None, None])), 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_box_families(name):
    """Density, entropy and KL, each a sum over the four elements."""
    policy, exact = over_box(name)
    other, exact_other = over_box(name, seed=1)
    q = np.random.default_rng(2).uniform(0.02, 0.98, (BATCH, 4))
    x = jnp.array(exact.ppf(q), jnp.float32)
    log_prob = exact.logpdf(np.asarray(x, np.float64)).sum(-1)
    found = everything(policy, other, x.reshape(BATCH, 2, 2))
    np.testing.assert_allclose(found[0], log_prob, rtol=1e-4, atol=1e-4)
    entropy = -expectation(exact, exact.logpdf).sum(-1)
    np.testing.assert_allclose(found[1], entropy, rtol=1e-4, atol=1e-3)
    kl = expectation(exact, lambda x: exact.logpdf(x) - exact_other.logpdf(x)).sum(-1)
    np.testing.assert_allclose(found[2], kl, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(policy.kl(policy), np.zeros(BATCH), atol=1e-5)


def test_structures_tell_families_apart():
    """Else `jit` may run one family's program for another: so with `register_dataclass` in JAX 0.10.2, now and then."""
    gaussian, squashed, beta = (jax.tree.structure(over_box(name)[0]) for name in FAMILIES)
    assert gaussian != squashed and gaussian != beta and squashed != beta
    assert gaussian == jax.tree.structure(over_box("gaussian", seed=1)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_box_draws(name):
    """Kolmogorov-Smirnov for each element, no correlation between them, and the density that comes with a draw."""
    policy, exact = over_box(name, batch=1)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (10_000, 4)), policy)
    x, log_prob = draw(many, jax.random.key(0))
    assert x.shape == (10_000, 2, 2) and x.dtype == jnp.float32
    flat = np.asarray(x, np.float64).reshape(-1, 4)
    assert np.isfinite(flat).all()
    if name != "gaussian":
        assert (flat >= LOW).all() and (flat <= HIGH).all()
        flat = flat.clip(LOW + 1e-7 * (HIGH - LOW), HIGH - 1e-7 * (HIGH - LOW))
    normal = scipy.stats.norm.ppf(exact.cdf(flat))
    for column in normal.T:
        assert scipy.stats.kstest(column, "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(normal.T) - np.eye(4)).max() < 0.04  # four deviations of 0.01
    inner = (np.abs(normal) < 3).all(-1)  # next to a bound the rounding of x to float32 moves its density
    assert inner.mean() > 0.98
    difference = np.abs(log_prob - everything(many, many, x)[0])[inner]
    assert difference.max() < 1e-2 and difference.mean() < 1e-4


def test_modes():
    mean = jnp.array([[0.5, -1.0, 2.0, 0.0]])
    np.testing.assert_array_equal(Gaussian(mean, mean, BOX).mode(), mean.reshape(1, 2, 2))
    found = SquashedGaussian(mean, mean, BOX).mode()
    expected = [[np.tanh(0.5), 0.5 + 2.5 * np.tanh(-1)], [0.25 + 0.25 * np.tanh(2), 15.0]]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    found = Beta(jnp.array([[2.0, 4.0, 1.5, 1.0]]), jnp.array([[2.0, 2.0, 2.0, 1.0]]), BOX).mode()  # (α - 1) / (α + β - 2)
    np.testing.assert_allclose(found[0], [[0.0, -2 + 5 * 3 / 4], [0.5 / 3, 15.0]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("log_std", "atol"), [(-5.0, 2e-5), (0.0, 1e-4), (np.log(1.6), 2e-4), (1.0, 2e-3), (2.0, 0.1)])
def test_entropy_of_narrow_wide_and_saturated_squashed_gaussians(log_std, atol):
    """H(u) + E[log sech² u]; log sech² u = 2 log 2 - 2 |u| - 2 log(1 + e^(-2|u|))."""
    means = np.array([-20.0, -2.0, 0.0, 0.7, 4.0])
    z = np.linspace(-9, 9, 20_001)
    u = np.abs(means[:, None] + np.exp(log_std) * z)
    log_sech2 = 2 * np.log(2) - 2 * u - 2 * np.log1p(np.exp(-2 * u))
    expected = scipy.stats.norm.entropy(0, np.exp(log_std)) + log_sech2 @ (scipy.stats.norm.pdf(z) * (z[1] - z[0]))
    found = SquashedGaussian(jnp.array(means)[:, None], jnp.full((5, 1), log_std), UNIT).entropy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", ["squashed_gaussian", "beta"])
def test_on_the_bounds_everything_is_finite(name):
    policy, _ = over_box(name)

    def log_prob(policy, x):
        return policy.log_prob(x).sum()

    for bound in (LOW, HIGH, np.nextafter(HIGH, np.inf), LOW - 1):
        x = jnp.broadcast_to(jnp.array(bound, jnp.float32).reshape(2, 2), (BATCH, 2, 2))
        value, slopes = jax.value_and_grad(log_prob, (0, 1))(policy, x)
        assert np.isfinite(value) and all(np.isfinite(s).all() for s in jax.tree.leaves(slopes))


def test_a_saturated_draw_keeps_its_density():
    """With u ~ N(±20, 1), x rounds to a bound, yet the mean of log π is still -H = -(H(u) + E[2 log 2 - 2 |u|])."""
    mean = jnp.concatenate([jnp.full((10_000, 1), -20.0), jnp.full((10_000, 1), 20.0)])
    policy = SquashedGaussian(mean, jnp.zeros_like(mean), UNIT)
    x, log_prob = policy.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_array_equal(x, np.sign(mean[:, 0]))
    expected = -(scipy.stats.norm.entropy() + 2 * np.log(2) - 40)
    np.testing.assert_allclose(log_prob.mean(), expected, atol=4 * 2.2 / np.sqrt(20_000))  # std of z²/2 + 2 z: 2.12
    slopes = jax.grad(lambda d: sum(y.sum() for y in d.sample_and_log_prob(jax.random.key(0))))(policy)
    assert all(np.isfinite(s).all() for s in jax.tree.leaves(slopes))


def test_gradients_through_normal_draws():
    """By hand: dx/dμ = x'(u), dx/dlog σ = x'(u) (u - μ); log π moves with μ by -d log x'(u)/du, and with log σ as well."""
    mean, log_std, key = jnp.array([0.4]), jnp.array([-0.3]), jax.random.key(0)

    def jacobian(family):
        def draw(mean, log_std):
            return family(mean, log_std, Box((), -1.0, 3.0)).sample_and_log_prob(key)

        return draw(mean, log_std), jax.jacobian(draw, (0, 1))(mean, log_std)

    (u, _), ((du_mean, du_log_std), (dp_mean, dp_log_std)) = jacobian(Gaussian)
    noise = u - 0.4
    np.testing.assert_allclose([du_mean, du_log_std, dp_mean, dp_log_std], [[1], [noise], [0], [-1]], rtol=1e-5)
    (x, _), slopes = jacobian(SquashedGaussian)
    y = (x - 1) / 2
    np.testing.assert_allclose(y, np.tanh(u), rtol=1e-5)  # the same draw
    expected = [2 * (1 - y**2), 2 * (1 - y**2) * noise, 2 * y, 2 * y * noise - 1]
    np.testing.assert_allclose(np.ravel(jax.tree.leaves(slopes)), expected, rtol=1e-4)


def test_gradients_through_beta_draws():
    """The mean of dx/dα is d/dα of the mean, low + width · α / (α + β)."""
    alpha, beta = jnp.full((4_000, 1), 2.0), jnp.full((4_000, 1), 3.0)
    slopes = jax.grad(lambda d: d.sample(jax.random.key(0)).mean())(Beta(alpha, beta, Box((), -1.0, 3.0)))
    np.testing.assert_allclose(slopes.alpha.sum(), 4 * 3 / 25, rtol=0.03)
    np.testing.assert_allclose(slopes.beta.sum(), -4 * 2 / 25, rtol=0.03)


@pytest.mark.parametrize("family", [SquashedGaussian, Beta])
@pytest.mark.parametrize(
    "space",
    [Box((1,)), Box((1,), 0.0), Box((2,), (0.0, 0.0), (1.0, np.inf)), Box((1,), 1.0, 1.0), Box((1,), -3.4e38, 3.4e38)],
)
def test_unbounded_spaces_are_refused(family, space):
    parameters = jnp.ones((1, *space.shape))
    with pytest.raises(InputError, match=r"Box\(\d,\) .*valid box_policy here: gaussian"):
        family(parameters, parameters, space)


def test_a_misshapen_action_is_refused():
    policy, _ = over_box("gaussian")
    with pytest.raises((AssertionError, TypeError, ValueError)):
        policy.log_prob(jnp.zeros((2, 2, BATCH)))
