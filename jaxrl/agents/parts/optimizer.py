"""How agents descend their losses: the rule, its step size along training, and which leaves it moves how far.

Patterns of leaves are those of `networks/leaves.py`: freeze = ("torso",), lr_scale = ("torso=0.1", "head=2"). A frozen leaf
has no gradient and no state of the optimiser, so that nothing is computed for it. One that thaws in training (`unfreeze_at`)
has both from the start, in a group of its own, whose moments begin when it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.core import trees
from jaxrl.core.errors import InputError
from jaxrl.core.settings import Fraction, LoopConfig, NonNegative, Positive, hyperparameters
from jaxrl.core.types import PyTree, Scalar
from jaxrl.networks import leaves

Loss = Callable[..., tuple[jax.Array, Any]]  # (params, *args) -> (loss, whatever)
Rule = Literal["adam", "adamw", "radam", "rmsprop", "sgd"]
DECAYED = ("adamw", "rmsprop", "sgd")  # rules with a weight decay
RMS_DECAY = 0.99  # of the mean square, as PyTorch has it


@dataclasses.dataclass(frozen=True)
class Config(LoopConfig):
    """The rule and what it moves; with LoopConfig, the shape of an iteration."""

    optimizer: Rule = "adam"
    """Rule by which gradients move parameters; weight_decay is of adamw, rmsprop and sgd."""
    learning_rate_schedule: Literal["linear", "cosine"] = "linear"
    """Curve along which the step size falls by learning_rate_anneal of itself; 0 keeps it constant."""
    freeze: tuple[str, ...] = ()
    """Patterns of leaves that do not learn, as torso or actor/head."""
    lr_scale: tuple[str, ...] = ()
    """Factors on the step size of leaves as PATTERN=X: torso=0.1 head=2; of several that match the last holds."""

    def check(self) -> None:
        """Raises InputError for a factor that is none."""
        scales(self.lr_scale)


@hyperparameters
class HParams:
    """The step size along training, and the rule's numbers."""

    learning_rate: Annotated[float, Positive] = 3e-4
    """Step size of the optimiser."""
    learning_rate_anneal: Annotated[float, Fraction] = 0.0
    """Share of the step size given up over training; 1 = annealed to 0."""
    warmup_fraction: Annotated[float, Fraction] = 0.0
    """Share of training over which the step size first rises linearly from 0."""
    weight_decay: Annotated[float, NonNegative] = 0.0
    """Share of each parameter that a step of size 1 takes away, apart from the gradient (adamw, rmsprop, sgd)."""
    adam_epsilon: Annotated[float, Positive] = 1e-8
    """ε of adam, adamw, radam and rmsprop: gradients smaller than it are no longer scaled up to a whole step."""
    unfreeze_at: Annotated[float | None, Fraction] = None
    """Share of training after which the leaves of freeze learn too; none = never."""


def check(config: Any, hparams: Any) -> None:
    """Raises InputError where a setting would do nothing beside the others. For any agent's; traced values pass unread."""
    if not isinstance(config, Config):
        return
    decay = getattr(hparams, "weight_decay", 0.0)
    if isinstance(decay, float) and decay > 0 and config.optimizer not in DECAYED:
        raise InputError(f"weight_decay = {decay} needs optimizer = {' or '.join(DECAYED)}; {config.optimizer} has none")
    if config.learning_rate_schedule == "cosine" and getattr(hparams, "learning_rate_anneal", 1.0) == 0.0:
        raise InputError("learning_rate_schedule = cosine needs learning_rate_anneal > 0: a constant step size has no curve")
    if getattr(hparams, "kl_to_init", 0.0) is None and getattr(hparams, "kl_to_init_anneal", 0.0) != 0.0:
        raise InputError(f"kl_to_init_anneal = {hparams.kl_to_init_anneal} needs kl_to_init: there is nothing to give up")
    if getattr(hparams, "unfreeze_at", None) is not None and not config.freeze:
        raise InputError(f"unfreeze_at = {hparams.unfreeze_at} needs freeze: there is nothing to unfreeze")


def scales(words: tuple[str, ...]) -> dict[str, float]:
    """The factors of `lr_scale` by pattern. Raises InputError for what is none."""
    found = {}
    for word in ",".join(words).split(",") if words else ():
        pattern, equals, text = word.partition("=")
        try:
            found[pattern] = float(text)
        except ValueError:
            found[pattern] = -1.0
        if not (pattern and equals and 0 <= found[pattern] < float("inf")):
            raise InputError(f"lr_scale {word!r} must look like PATTERN=X, X a number >= 0")
    return found


def check_leaves(config: Any, params: PyTree) -> None:
    """Raises InputError for a pattern that matches no leaf of an agent's parameters, or where nothing is left to learn."""
    if not isinstance(config, Config):
        return
    known = list(leaves.named(params))
    leaves.check_patterns("freeze", config.freeze, known)
    leaves.check_patterns("lr_scale", scales(config.lr_scale), known)
    if all(leaves.any_matches(name, config.freeze) for name in known):
        raise _all_frozen(config.freeze)


def _all_frozen(patterns: tuple[str, ...]) -> InputError:
    return InputError(f"freeze = {' '.join(patterns)} freezes every leaf: nothing would be learnt (until unfreeze_at)")


def step_size(config: Config, hp: Any, progress: Scalar) -> Scalar:
    """The step size at `progress` in [0, 1] through training, of the clock that `learn` gets."""
    fallen = progress if config.learning_rate_schedule == "linear" else (1 - jnp.cos(jnp.pi * progress)) / 2
    annealed = hp.learning_rate * (1 - hp.learning_rate_anneal * fallen)
    return annealed * jnp.where(progress < hp.warmup_fraction, progress / jnp.maximum(hp.warmup_fraction, 1e-9), 1.0)


def rule(config: Config, hp: Any, size: Scalar) -> optax.GradientTransformation:
    """The optimiser with step size `size`: Adam (Kingma & Ba 2015), AdamW with decoupled weight decay (Loshchilov & Hutter
    2019), RAdam (Liu et al. 2020), RMSprop (Tieleman & Hinton 2012; uncentred, without momentum), or plain descent."""
    if config.optimizer == "adam":
        return optax.adam(size, eps=hp.adam_epsilon)
    if config.optimizer == "radam":
        return optax.radam(size, eps=hp.adam_epsilon)
    if config.optimizer == "adamw":
        return optax.adamw(size, eps=hp.adam_epsilon, weight_decay=hp.weight_decay)
    scale = optax.identity()
    if config.optimizer == "rmsprop":
        scale = optax.scale_by_rms(RMS_DECAY, hp.adam_epsilon, eps_in_sqrt=False)
    return optax.chain(scale, optax.add_decayed_weights(hp.weight_decay), optax.scale_by_learning_rate(size))


class Optimizer(NamedTuple):
    """How a loss is descended: a rule on the leaves that learn, and factors on their steps.

    frozen, scales: patterns, and factors by pattern. prefix: of the names, where what is descended is a part of an agent's
    parameters.
    """

    rule: optax.GradientTransformation
    frozen: tuple[str, ...] = ()
    scales: tuple[tuple[str, float], ...] = ()
    prefix: str = ""

    def init(self, params: PyTree) -> PyTree:
        """The optimiser's state before the first step. Raises InputError where no leaf learns."""
        learning, _ = self._parted(params)
        if not self.prefix and not jax.tree.leaves(learning):
            raise _all_frozen(self.frozen)
        return self.rule.init(learning)

    def descend(self, loss: Loss, params: PyTree, opt_state: PyTree, *args: Any) -> tuple[PyTree, PyTree, Any]:
        """One step down loss(params, *args) -> (loss, out): (params, opt_state, out)."""
        learning, frozen = self._parted(params)

        def of_learning(learning: PyTree, *args: Any) -> tuple[jax.Array, Any]:
            return loss(_joined(learning, frozen), *args)

        grads, out = jax.grad(of_learning if self.frozen else loss, has_aux=True)(learning, *args)
        updates, opt_state = self.rule.update(grads, opt_state, learning)
        return _joined(optax.apply_updates(learning, self._scaled(updates)), frozen), opt_state, out

    def _parted(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """(what learns, what does not): trees like `params`, each with None in the other's places."""
        return parted(params, self.frozen, self.prefix) if self.frozen else (params, None)

    def _scaled(self, updates: PyTree) -> PyTree:
        if not self.scales:
            return updates

        def scaled(name: str, update: jax.Array) -> jax.Array:
            found = [factor for pattern, factor in self.scales if leaves.matches(name, pattern)]
            return update * found[-1] if found else update

        return jax.tree.map(scaled, leaves.names(updates, self.prefix), updates)


def parted(params: PyTree, patterns: tuple[str, ...], prefix: str = "") -> tuple[PyTree, PyTree]:
    """(leaves that no pattern matches, the others): trees like `params`, each with None in the other's places."""
    held = jax.tree.map(lambda name: leaves.any_matches(name, patterns), leaves.names(params, prefix))
    free = jax.tree.map(lambda held, x: None if held else x, held, params)
    return free, jax.tree.map(lambda held, x: x if held else None, held, params)


def _joined(learning: PyTree, frozen: PyTree) -> PyTree:
    if frozen is None:
        return learning
    return jax.tree.map(lambda x, y: y if x is None else x, learning, frozen, is_leaf=lambda x: x is None)


def make(
    config: Config,
    hp: Any,
    progress: Scalar,
    *,
    of: Callable[[Scalar], optax.GradientTransformation] | None = None,
    limit: Scalar | None = None,
    flat: bool = False,
    prefix: str = "",
) -> Optimizer:
    """The optimiser at `progress` through training.

    of: step size -> rule, in place of the Config's. limit: of the gradients' global norm. flat: all leaves as one vector,
    in fewer kernels.
    """
    size = step_size(config, hp, progress)
    inner = of(size) if of else rule(config, hp, size)
    clip = optax.identity() if limit is None else optax.clip_by_global_norm(limit)
    factors = tuple(scales(config.lr_scale).items())
    if config.freeze and hp.unfreeze_at is not None:
        inner = optax.flatten(inner) if flat else inner
        return Optimizer(_thawing(inner, clip, config.freeze, progress >= hp.unfreeze_at, prefix), (), factors, prefix)
    inner = inner if limit is None else optax.chain(clip, inner)
    return Optimizer(optax.flatten(inner) if flat else inner, config.freeze, factors, prefix)


def _thawing(
    rule: optax.GradientTransformation,
    clip: optax.GradientTransformation,
    patterns: tuple[str, ...],
    thawed: jax.Array,
    prefix: str,
) -> optax.GradientTransformation:
    """`clip` over all leaves, then `rule` on two groups, the second of which rests until `thawed`: it counts in no norm.

    With one state for both, the second's moments would be 0 while the count of steps, by which Adam corrects them, is not:
    first steps several times too long.
    """

    def init(params: PyTree) -> tuple[PyTree, PyTree]:
        learning, late = parted(params, patterns, prefix)
        if not prefix and not jax.tree.leaves(learning):
            raise _all_frozen(patterns)
        return rule.init(learning), rule.init(late)

    def update(grads: PyTree, state: tuple[PyTree, PyTree], params: PyTree = None) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        learning, late = parted(grads, patterns, prefix)
        late = jax.tree.map(lambda g: jnp.where(thawed, g, 0.0), late)
        grads, _ = clip.update(_joined(learning, late), clip.init(params))
        (learning, late), (params, late_params) = (parted(x, patterns, prefix) for x in (grads, params))
        updates, after = rule.update(learning, state[0], params)
        late_updates, late_after = rule.update(late, state[1], late_params)
        late_updates = jax.tree.map(lambda u: jnp.where(thawed, u, 0.0), late_updates)
        return _joined(updates, late_updates), (after, trees.where(thawed, late_after, state[1]))

    return optax.GradientTransformation(init, update)
