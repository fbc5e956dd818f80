"""`jaxrl train`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import experiments, output
from jaxrl.cli.options import TrainOptions
from jaxrl.devices import platform
from jaxrl.runs import directory, sinks


def main(args: Sequence[str]) -> int:
    """Train an agent with one or several seeds into a directory."""
    if experiments.wants_help("train", args):
        return 0
    platform.configure()  # before a file of one's own, which may compute something, is imported
    options, experiment_of = experiments.read("train", TrainOptions, args)
    sinks.require(options.tensorboard, options.wandb)
    from jaxrl.show import pictures
    from jaxrl.sweeps import directory as sweeps
    from jaxrl.sweeps import plan, waves

    experiment = experiment_of()
    out = options.out or experiments.new_directory(experiment)
    directory.check_free(out, options.overwrite)
    names = experiments.callback_names(options)
    planned = plan.make_run(experiment, options.seeds, options.seed, eval_every=options.eval_every, callback_names=names)
    written = waves.Options(options.checkpoint_every, options.tensorboard, options.wandb)
    return output.finish(lambda: sweeps.train(planned, out, written, options.overwrite, pictures.draw), options.json)
