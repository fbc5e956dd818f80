"""Other places than its directory that a run's numbers go to: TensorBoard events and Weights & Biases.

Both get, of every member: the configuration (config.json's values with the member's own), every number of every row at its
env_steps, and at the end its final return. The first member also gets the run's pictures and the animation of its policy.

A sink may cost 3 % of a run's time at most, beside metrics.jsonl alone. TensorBoard's file takes 0.02 ms a row and is
written in turn with metrics.jsonl. W&B's client and service take 0.4 ms: see `Wandb`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from jaxrl.core.errors import InputError
from jaxrl.experiment.members import Member
from jaxrl.runs import documents, metrics
from jaxrl.runs.callbacks import Event, RowCallback
from jaxrl.runs.directory import CURVE, GIF, TENSORBOARD, VALUES, WANDB
from jaxrl.runs.documents import SUMMARY
from jaxrl.runs.driver import Training
from jaxrl.runs.metrics import METRICS
from jaxrl.runs.wave import Wave

FOLLOWER = Path(__file__).with_name("wandb_follower.py")
PICTURES = (CURVE, VALUES, GIF)
FLUSH_SECONDS = 10.0


def require(tensorboard: bool, wandb: str | None) -> None:
    """Raises ValueError where a sink that is asked for is not installed, or has no name."""
    for flag, package, wanted in (("tensorboard", "tensorboardX", tensorboard), ("wandb", "wandb", wandb is not None)):
        if not wanted:
            continue
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # without an origin: a mere folder of that name, as W&B makes them
            raise InputError(f"--{flag} needs the extra: pip install 'jaxrl[{flag}]'")
    if wandb == "":
        raise InputError("--wandb needs the name of a project")


def member_config(values: Mapping[str, Any], member: Member) -> dict[str, Any]:
    """config.json's values as they hold for one member, its label under `member`."""
    own = {name: {**values[name], **getattr(member, name)} for name in ("hparams", "env_params")}
    return {name: value for name, value in values.items() if name != "members"} | own | {"member": member.label}


def _folder(member: Member) -> str:
    return "_".join(f"{key}_{number}" for key, number in member.label.items())


class TensorBoard(RowCallback):
    """Events in DIR/tensorboard/seed_<n>, in a sweep config_<c>_seed_<n>: one event a row. Needs the extra `tensorboard`.

    The configuration is a text and fills the HPARAMS tab; a GIF is an image, which TensorBoard plays.
    """

    def __init__(self, wave: Wave) -> None:
        self._wave, self._directory = wave, wave.directory
        self._writers: dict[Any, Any] = {}

    def start(self, training: Training) -> None:
        """Open the files. Events of an earlier process after this environment step are dropped by TensorBoard."""
        from tensorboardX.event_file_writer import EventsWriter  # not SummaryWriter: that has a queue and a thread each
        from tensorboardX.proto import event_pb2, summary_pb2

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._flushed = time.monotonic()
        values = documents.read_config(self._directory)
        for member in self._wave.members:
            folder, name = self._directory / TENSORBOARD / _folder(member), member.name
            resumed = folder.exists()
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[name] = EventsWriter(str(folder / "events"), f".{os.getpid()}")
            if resumed:
                again = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                self._writers[name].write_event(
                    self._event(wall_time=time.time(), step=training.env_steps + 1, session_log=again)
                )
            else:
                self._describe(name, member_config(values, member))

    def _describe(self, name: Any, config: dict[str, Any]) -> None:
        from tensorboardX import summary

        text = json.dumps(config, indent=2).replace("\n", "\n    ")  # indented by four: Markdown leaves it as it is
        self._put(name, summary.text("config", f"    {text}"), 0)
        flat = {key: config[key] for key in ("agent", "env", "preset", "total_steps")} | config["member"]
        flat |= config["config"] | config["hparams"] | {f"env.{k}": v for k, v in config["env_params"].items()}
        plain = {k: v if isinstance(v, str | bool | int | float) else str(v) for k, v in flat.items()}
        for part in summary.hparams(plain, {"final_return": None}):  # the experiment, its begin, its end
            self._put(name, part, 0)

    def update(self, event: Event) -> None:
        """One event for each row, at its environment step; after a resume some come again, equal to the first."""
        left_out, value = ("iteration", "config", "seed", "env_steps"), self._summary.Value
        for row in event.rows:
            scalars = [value(tag=k, simple_value=v) for k, v in row.items() if v is not None and k not in left_out]
            self._put(metrics.name_of(row), self._summary(value=scalars), row["env_steps"])
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def finish(self, training: Training, summary: dict[str, Any]) -> None:
        """The final returns, and the pictures beside the first member."""
        step, value = summary["env_steps"] // summary["seeds"], self._summary.Value
        for name, final in zip(self._writers, summary["final_return"]["per_seed"], strict=True):
            if final is not None:
                self._put(name, self._summary(value=[value(tag="final_return", simple_value=final)]), step)
        first = next(iter(self._writers))
        for path in (self._directory / name for name in PICTURES):
            if not path.exists():
                continue
            with Image.open(path) as opened:
                width, height = opened.size
            image = self._summary.Image(width=width, height=height, colorspace=3, encoded_image_string=path.read_bytes())
            self._put(first, self._summary(value=[value(tag=path.stem, image=image)]), step)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _put(self, name: Any, summary: Any, step: int) -> None:
        self._writers[name].write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()
        self._flushed = time.monotonic()


class Wandb(RowCallback):
    """A W&B run for each member, grouped, in a project. Needs the extra `wandb`; W&B's variables (WANDB_MODE ...) hold.

    A process beside the run follows metrics.jsonl at the lowest priority: what it takes, the run's own work does not need.
    So W&B may lag behind a run that uses every core, and `close` waits until it has caught up. (Measured on 2 cores with
    wandb 0.31: its client and service together need 0.4 ms of a core for a row, 2 s to start and 0.1 s for each member.)

    Files lie in DIR/wandb. Of an identifier in there and of the member are made the ids, with which a resumed run goes on.
    """

    def __init__(self, wave: Wave, project: str, group: str, from_byte: int) -> None:
        """from_byte: of metrics.jsonl, where this process begins."""
        self._wave, self._project, self._group, self._from_byte = wave, project, group, from_byte
        self._process: Any = None
        self._over = self._warned = False

    def start(self, training: Training) -> None:
        """Start the process that follows metrics.jsonl."""
        directory, group = self._wave.directory, self._group
        values, token = documents.read_config(directory), _identifier(directory)
        described = [
            {"id": f"{token}-{_folder(m)}", "name": f"{group}-{_folder(m)}", "config": member_config(values, m)}
            for m in self._wave.members
        ]
        work = {
            "project": self._project,
            "group": group,
            "directory": str(directory),
            "rows": str(directory / METRICS),
            "from_byte": self._from_byte,
            "summary": str(directory / SUMMARY),
            "pictures": [str(directory / name) for name in PICTURES],
            "members": described,
        }
        (directory / METRICS).touch()  # it is followed from the first
        words = [sys.executable, "-P", str(FOLLOWER)]  # -P: its neighbours have names of the standard library
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(work) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(f"the process of --wandb ended with {self._process.wait()}") from error

    def update(self, event: Event) -> None:
        """Warn once where W&B has stopped: the run goes on, `close` says why."""
        if self._process.poll() is not None and not self._warned:
            self._warned = True
            warnings.warn("W&B has stopped following the run, which goes on without it", stacklevel=2)

    def close(self) -> None:
        """Wait until W&B has everything. Raises ValueError where it refused, RuntimeError where it failed."""
        if self._over or self._process is None:
            return
        self._over = True
        said, _ = self._process.communicate()
        if self._process.returncode == 2:
            raise InputError(f"--wandb: {said.strip()}")
        if self._process.returncode:
            raise RuntimeError(f"the process of --wandb ended with {self._process.returncode}")


def _identifier(directory: Path) -> str:
    """Of a run directory, made once; a run that overwrites another has its own."""
    path = directory / WANDB / "identifier"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex(4))
    return path.read_text()
