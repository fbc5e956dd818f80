"""Population-based training (Jaderberg et al. 2017): selection and perturbation.

Every round a population trains for some iterations. Between two rounds each member of the worst fifth takes over the
hyper-parameters and what was learnt (parameters, optimiser state, running statistics) of a member drawn from the best fifth,
and its hyper-parameters are perturbed ("truncation selection" and "perturb"): in a log range multiplied by 0.8 or 1.2, as in
the paper; in a uniform range moved by a tenth of it, since a fifth of γ = 0.99 is beyond any sensible range. Both within the
range. Keys, environments and experience (replay, priorities) stay the member's own. A member that diverged is worse than any
other: it is replaced even outside the worst fifth, and nobody goes on from it while another is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import trees
from jaxrl.core.types import Key, PyTree, State, TrainState
from jaxrl.devices.layout import Layout
from jaxrl.experiment.search_space import Span

FRACTION = 0.2  # of the population that is replaced, and that it is replaced from
FACTORS = (0.8, 1.2)  # in a log range
SHARE = 0.1  # of a uniform range


class Round(NamedTuple):
    """What a round did, for a population of P.

    score: mean return of the training episodes that ended in it, float32 [P]; -inf without one. diverged: whether a loss in
    it was not finite, bool [P]. parent: whose learning each member goes on with, int32 [P]; its own index where it was kept.
    hparams: varied settings after it {name: [P]}.
    """

    score: jax.Array
    diverged: jax.Array
    parent: jax.Array
    hparams: dict[str, jax.Array]


def selection(score: jax.Array, diverged: jax.Array, key: Key) -> jax.Array:
    """Whom each member goes on from, int32 [P]: the worst ⌊P/5⌋ (at least 1), and all that diverged, from drawn ones of as
    many best, of which none diverged while one is left that did not.

    Of equal scores the one of the lower index counts as better. P ≥ 2.
    """
    size = score.shape[0]
    cut = min(max(1, int(FRACTION * size)), size // 2)
    order = jnp.lexsort((-score, diverged))  # best first
    rank = jnp.argsort(order)
    donors = jnp.clip(jnp.sum(~diverged), 1, cut)
    drawn = order[jax.random.randint(key, (size,), 0, donors)]
    return jnp.where((rank >= size - cut) | diverged, drawn, jnp.arange(size))


def perturbed(values: dict[str, jax.Array], spans: Mapping[str, Span], key: Key) -> dict[str, jax.Array]:
    """Each value [P] times 0.8 or 1.2, or less or more by a tenth of a uniform range, each as likely; held within it."""
    found = {}
    for name, each in zip(sorted(values), jax.random.split(key, len(values)), strict=True):
        x, span = values[name], spans[name]
        down = jax.random.bernoulli(each, shape=x.shape)
        step = SHARE * (span.high - span.low)
        moved = x * jnp.where(down, *FACTORS) if span.log else x + jnp.where(down, -step, step)
        found[name] = jnp.clip(moved, span.low, span.high)
    return found


def inherited(agent: PyTree, parent: jax.Array) -> PyTree:
    """Agent states [P, ...] after selection: what was learnt is the parent's, experience stays the member's own."""

    def pick(x: PyTree) -> PyTree:
        return State(of_parent(x.learner), x.experience) if isinstance(x, State) else of_parent(x)

    def of_parent(x: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.take(leaf, parent, axis=0), x)

    return jax.tree.map(pick, agent, is_leaf=lambda x: isinstance(x, State))


def exploit_and_explore(
    states: TrainState, score: jax.Array, diverged: jax.Array, spans: Mapping[str, Span], key: Key
) -> tuple[TrainState, jax.Array]:
    """The population's states after selection and perturbation, and each member's parent [P]."""
    select_key, perturb_key = jax.random.split(key)
    parent = selection(score, diverged, select_key)
    taken = parent != jnp.arange(score.shape[0])
    hparams = jax.tree.map(lambda x: jnp.take(x, parent, axis=0), states.hparams)
    before = {name: getattr(hparams, name) for name in spans}
    after = trees.where(taken, perturbed(before, spans, perturb_key), before)
    hparams = type(hparams)(**{**vars(hparams), **after})
    return states._replace(hparams=hparams, agent=inherited(states.agent, parent)), parent


def scores(returns: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """The mean return of the training episodes that ended in a round, float32 [P]; -inf without one.

    returns: means of the episodes that ended in each iteration, episodes: how many, both [P, iterations].
    """
    total = np.where(episodes > 0, returns.astype(np.float64) * episodes, 0.0).sum(1)
    count = episodes.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf).astype(np.float32)


def layout_of(population: int) -> Layout:
    """As many devices as share the population evenly, two members each at least on CPU."""
    most = Layout.over_all_devices(population).devices
    return Layout(population, next(d for d in range(most, 0, -1) if population % d == 0), population)


def lineage(rounds: Round, member: int) -> np.ndarray:
    """Whose learning a member's final policy is: the member it was during each round, int [R]. Fields of rounds: [R, P]."""
    found = []
    for parent in reversed(rounds.parent):
        member = int(parent[member])
        found.append(member)
    return np.array(found[::-1])


def schedule(initial: dict[str, np.ndarray], rounds: Round, member: int) -> dict[str, list[float]]:
    """The hyper-parameters under which a member's final policy was trained, round by round {name: [R]}.

    initial: {name: [P]}; those after round r are used in round r + 1.
    """
    who = lineage(rounds, member)
    return {
        name: [float((initial[name] if r == 0 else values[r - 1])[m]) for r, m in enumerate(who)]
        for name, values in rounds.hparams.items()
    }
