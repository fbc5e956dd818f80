"""`jaxrl resume`."""

from __future__ import annotations

from collections.abc import Sequence

from jaxrl.cli import flags, output
from jaxrl.cli.options import EngineOptions, ResumeOptions
from jaxrl.core.errors import InputError
from jaxrl.core.settings import build
from jaxrl.devices import platform
from jaxrl.runs import documents, sinks


def main(args: Sequence[str]) -> int:
    """Go on with what was stopped, or past its end with --total-steps."""
    options = build(ResumeOptions, vars(flags.parse(ResumeOptions, args, "jaxrl resume")), "jaxrl resume")
    sinks.require(options.tensorboard, options.wandb)
    directory, kind = options.dir, documents.kind_of(options.dir)
    where = build(EngineOptions, vars(options.where), "jaxrl resume")
    if where.engine != "local" and kind != "sweep":
        raise InputError(f"--engine {where.engine} is for sweeps, and {directory} is none")
    if kind in ("tuning", "population"):
        for flag in ("tensorboard", "wandb", "total_steps"):
            if getattr(options, flag):
                raise InputError(f"--{flag.replace('_', '-')} is for runs and sweeps, and {directory} is a tuning")
    from jaxrl.sweeps import directory as sweeps
    from jaxrl.sweeps import reading

    platform.configure(max(platform.cores(), reading.devices(directory)), cpu_only=where.engine != "local")
    from jaxrl.show import pictures
    from jaxrl.sweeps import waves
    from jaxrl.tuning import directory as tunings

    written = waves.Options(options.checkpoint_every, options.tensorboard, options.wandb, anyway=options.anyway)
    if kind in ("tuning", "population"):
        return output.finish(lambda: tunings.resume(directory, written, pictures.draw_tuning)[0], options.json)
    return output.finish(
        lambda: sweeps.resume(directory, written, pictures.draw, options.total_steps, **vars(where)), options.json
    )
