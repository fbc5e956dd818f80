"""`jaxrl tune`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import experiments, flags, output
from jaxrl.cli.options import TuneOptions
from jaxrl.devices import platform
from jaxrl.runs import directory


def main(args: Sequence[str]) -> int:
    """Search for better settings into a directory."""
    if experiments.wants_help("tune", args):
        return 0
    platform.configure()  # before a file of one's own, which may compute something, is imported
    options, experiment_of = experiments.read("tune", TuneOptions, args)
    search = flags.lists("--search", options.search)
    from jaxrl.show import pictures
    from jaxrl.sweeps import waves
    from jaxrl.tuning import directory as tunings

    experiment = experiment_of()
    out = options.out or experiments.new_directory(experiment)
    directory.check_free(out, options.overwrite)
    plan = tunings.make_plan(experiment, search, vars(options.tuning), options.storage)
    written = waves.Options(options.checkpoint_every)
    return output.finish(lambda: tunings.train(plan, out, written, options.overwrite, pictures.draw_tuning)[0], options.json)
