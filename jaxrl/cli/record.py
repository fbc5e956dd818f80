"""`jaxrl record`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jaxrl.cli import flags
from jaxrl.cli.options import RecordOptions
from jaxrl.core.numbers import counted, readable
from jaxrl.core.settings import build
from jaxrl.devices import platform


def main(args: Sequence[str]) -> int:
    """Record episodes of a trained policy, and say how many there are and what they pay."""
    options = build(RecordOptions, vars(flags.parse(RecordOptions, args, "jaxrl record")), "jaxrl record")
    platform.configure(1)
    from jaxrl import api
    from jaxrl.datasets import files
    from jaxrl.transfer import record

    record.check_settings(options.steps, options.episodes, options.policy)
    files.check_free(options.out, options.format, options.overwrite)
    result = api.load(options.dir, best=options.best, anyway=options.anyway)
    asked = {
        name: getattr(options, name) for name in ("steps", "episodes", "policy", "member", "seed", "format", "overwrite")
    }
    said = api.record(result, out=options.out, **asked)
    if options.json:
        print(json.dumps(said))
        return 0
    print(f"{said['steps']:,} steps in {counted(said['episodes'], 'episode')}, mean return {readable(said['mean_return'])}")
    print(f"dataset {said['out']}")
    return 0
