"""`jaxrl eval`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from jaxrl.cli import flags
from jaxrl.cli.options import EvalOptions
from jaxrl.core.errors import InputError
from jaxrl.core.numbers import readable
from jaxrl.core.settings import build
from jaxrl.devices import platform


def main(args: Sequence[str]) -> int:
    """Evaluate greedily the policies of a run, a wave, a population, or of a sweep's or a tuning's best configuration."""
    options = build(EvalOptions, vars(flags.parse(EvalOptions, args, "jaxrl eval")), "jaxrl eval")
    if options.gif:
        flags.check_writable("--gif", options.gif, (".gif",))
    platform.configure(1)
    import jax

    from jaxrl.core import checks, evaluation, loop, trees
    from jaxrl.show import render, value_map

    trainer, states, names, config = _policies(options)
    spec = trainer.env.spec
    split = options.split or ("test" if spec.splits else None)
    if split:
        params = jax.vmap(lambda member: checks.levels(spec, member, split))(states.env_params)
        states = states._replace(env_params=params)

    def one(state: Any) -> Any:
        return evaluation.evaluate(trainer, state, loop.stream(state.key, loop.EVALUATE, 0), options.episodes)

    result = jax.device_get(jax.vmap(one)(states))
    first = trees.member(states, 0)
    if options.gif:
        render.policy_gif(trainer, first, loop.stream(first.key, loop.RENDER), options.gif)
        print(f"gif     {options.gif}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        values = {name: x.tolist() for name, x in result._asdict().items()}
        which = ({} if config is None else {"config": config}) | ({"split": split} if split else {})
        print(json.dumps({**which, **values, "mean": float(result.returns.mean())}))
        return 0
    if config is not None:
        print(f"configuration {config}")
    table = value_map.q_table(trainer, first)
    if table is not None:
        print(f"action values of {names[0]}, * greedy\n{value_map.text(spec, table)}")
    for name, returns, lengths in zip(names, result.returns, result.lengths, strict=True):
        mean, deviation = float(returns.mean()), float(returns.std())
        print(f"{name}: return {readable(mean, deviation)} ± {readable(deviation, mean)}, length {lengths.mean():.1f}")
    mean, scores = float(result.returns.mean()), spec.scores
    normalized = f", human-normalised score {readable(scores.normalized(mean))}" if scores else ""
    of_levels = f" of {split} levels" if split else ""
    print(f"mean return {readable(mean)} over {result.returns.size} episodes{of_levels}{normalized}")
    return 0


def _policies(options: EvalOptions) -> tuple[Any, Any, list[str], int | None]:
    """A trainer, states [members, ...], what each is called, and the configuration's number (None where there is none)."""
    from jaxrl.sweeps.result import SweepResult
    from jaxrl.tuning import directory as tunings
    from jaxrl.tuning.population import PopulationResult

    directory, config = options.dir, options.config
    result = tunings.load(directory, best=options.best, anyway=options.anyway)
    if not isinstance(result, SweepResult):
        if config is not None:
            raise InputError(f"--config is for sweeps, and {directory} is none")
        labels = [" ".join(f"{what} {n}" for what, n in member.label.items()) for member in result.wave.members]
        if isinstance(result, PopulationResult):
            labels = [f"member {i}" for i in range(len(labels))]
        return *result, labels, None
    if config is not None and config >= len(result.configs):
        raise InputError(f"config {config} is out of range: {directory} has {len(result.configs)}, from 0 on")
    chosen = result.best() if config is None else config
    return *result.policies(chosen), [f"seed {seed}" for seed in result.seeds], chosen
