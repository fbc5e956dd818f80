"""`jaxrl sweep`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jaxrl.cli import experiments, flags, output
from jaxrl.cli.options import EngineOptions, SweepOptions
from jaxrl.core.settings import build
from jaxrl.devices import memory, platform
from jaxrl.experiment import search_space
from jaxrl.runs import directory, sinks
from jaxrl.runs.progress import say


def main(args: Sequence[str]) -> int:
    """Train configurations × seeds into a directory; with --dry-run only plan."""
    if experiments.wants_help("sweep", args):
        return 0
    platform.configure(cpu_only=(flags.peek(args, "--engine") or "local") != "local")
    options, experiment_of = experiments.read("sweep", SweepOptions, args)
    sinks.require(options.tensorboard, options.wandb)
    grid, random = flags.lists("--grid", options.grid), flags.lists("--random", options.random)
    where = build(EngineOptions, vars(options.where), "jaxrl sweep")
    local = where.engine == "local"
    from jaxrl.show import pictures
    from jaxrl.sweeps import directory as sweeps
    from jaxrl.sweeps import plan, waves

    limit = None if options.memory_limit is None else memory.read_bytes(options.memory_limit)
    experiment = experiment_of()
    configurations, asked = search_space.configurations(experiment, grid, random, options.samples, options.seed)
    out = options.out or experiments.new_directory(experiment)
    if not options.dry_run:
        directory.check_free(out, options.overwrite)
        experiment.check_rebuildable()
    names, every = experiments.callback_names(options), options.eval_every
    rest: dict[str, Any] = {"eval_every": every, "memory_limit": limit, "fit": local, "callback_names": names}
    planned = plan.make(experiment, configurations, options.seeds, options.seed, asked, **rest)
    say("\n".join(planned.lines()), result=not options.json)
    if options.dry_run:
        if options.json:
            print(json.dumps(planned.summary()))
        return 0
    written = waves.Options(options.checkpoint_every, options.tensorboard, options.wandb)
    return output.finish(
        lambda: sweeps.train(planned, out, written, options.overwrite, pictures.draw, **vars(where)), options.json
    )
