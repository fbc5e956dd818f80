"""config.json of directories made up here, whole by the schema of documents.py."""

import json

from jaxrl.runs.documents import FORMAT

ABOUT = {"versions": {}, "device": {}, "bits": {}}
EXPERIMENT = {"agent": "dqn", "env": "CartPole-v1", "env_kwargs": {}, "env_params": {}, "total_steps": 950, "config": {},
              "hparams": {}, "preset": "none"}  # fmt: skip
WAVE = {"members": [{"seed": 0}, {"seed": 1}], "program": {"form": "vmap", "devices": 1, "width": 2}, "eval_every": 0}
PLAN = {"configurations": [{}], "seeds": 2, "seed": 0, "eval_every": 0, "memory_limit": None, "programs": [{}], "asked": [],
        "callbacks": []}  # fmt: skip
TUNING = {"search": {}, "tuning": {}, "storage": None}
KINDS = {"run": WAVE | PLAN, "sweep": PLAN, "wave": WAVE, "tuning": TUNING, "population": WAVE | TUNING}


def config(kind, **more):
    """Values of a directory of two seeds."""
    return {"jaxrl": FORMAT, "kind": kind} | EXPERIMENT | ABOUT | KINDS[kind] | more


def write_config(folder, kind, **more):
    """The same, written."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(kind, **more)))
