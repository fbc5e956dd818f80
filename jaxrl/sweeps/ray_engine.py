"""A sweep's waves on the workers of a Ray cluster: the engine "ray" of directory.py. Needs the extra `ray`.

Each worker is a process that plans for its own devices and memory. It is handed the next members of a program, as many as
fit it, trains them into a run directory of the sweep as a local sweep does, checkpoints included, and is handed the next.
Nothing is kept but those directories: a lost worker is started again and goes on from the checkpoint of its wave; after a
lost driver `jaxrl resume` goes on from all of them. So all machines must see the sweep's directory under one path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxrl.core.errors import InputError
from jaxrl.devices import platform
from jaxrl.devices.layout import BLOCK, Layout
from jaxrl.runs import documents
from jaxrl.runs.driver import Interruption, Stop
from jaxrl.runs.progress import Bar
from jaxrl.runs.wave import Wave
from jaxrl.sweeps import waves
from jaxrl.sweeps.plan import Plan
from jaxrl.sweeps.ray_worker import Slot, Worker
from jaxrl.sweeps.waves import Engine, Options

RETRIES = 50  # of a wave whose worker is lost; Ray counts several while a machine does not answer
START_SECONDS = 120.0  # for all workers to be started
POLL_SECONDS = 0.5
EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # a frame of HTTP/2; the fourth byte is its type


@contextlib.contextmanager
def workers(address: str | None, cpus: int | None) -> Iterator[Engine]:
    """An engine that trains on a running cluster's workers. Raises ValueError where there is no such cluster.

    address: HOST:PORT; None: RAY_ADDRESS, else the cluster that this machine is part of. cpus: of a worker; see `slots`.
    """
    with contextlib.redirect_stdout(sys.stderr), _connected(address) as ray:  # Ray prints there which workers it lost
        actors = {}
        try:
            for slot in slots(ray.nodes(), cpus):
                actors[_start(ray, slot)] = slot
            _await(ray, list(actors))
            yield lambda plan, directory, options, stop: _Sweep(ray, actors, plan, directory.absolute(), options).train(stop)
        finally:
            for actor in actors:
                ray.kill(actor)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, of which this process is a driver: as it was before, or for as long as this lasts."""
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray needs the extra: pip install 'jaxrl[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    _join(ray, address or os.environ.get("RAY_ADDRESS", "auto"))
    try:
        yield ray
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    """Become a driver of the cluster there, or ("auto") of this machine's. Raises ValueError where there is none."""
    hint = "start one with: ray start --head"
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise InputError(f"Ray address {address!r} must look like HOST:PORT")
        try:
            known = _greets(host, int(port))  # Ray itself would try for minutes
        except OSError as error:
            raise InputError(f"no Ray cluster answers at {address} ({error.strerror or error}); {hint}") from error
        if not known:
            raise InputError(f"what answers at {address} is not a Ray cluster; {hint}")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"no Ray cluster can be joined from this machine ({reason}); {hint}") from error


def _greets(host: str, port: int) -> bool:
    """Whether a server of gRPC, as Ray's is, listens there: it begins with its settings (RFC 9113, 3.4). Raises OSError."""
    with socket.create_connection((host, port), timeout=5) as connection:
        if os.environ.get("RAY_USE_TLS") == "1":
            return True  # it waits for a handshake, which is Ray's to make
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + EMPTY_SETTINGS)
        frame = connection.recv(len(EMPTY_SETTINGS))
    return frame[3:4] == EMPTY_SETTINGS[3:4]


def slots(nodes: Sequence[dict[str, Any]], cpus: int | None) -> list[Slot]:
    """Places for workers on a cluster's machines, as `ray.nodes()` lists them.

    One for each GPU; of the other cores one for every `cpus`. cpus None: a single one of all cores where there is no GPU.
    Raises ValueError where there is room for none.
    """
    found = []
    for node in nodes:
        cores, gpus = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        if not node["Alive"]:
            continue
        each = cpus or (0 if gpus else cores)
        count = (cores - gpus) // each if each else 0
        found += [Slot(node["NodeID"], "gpu", 1, 1)] * gpus + [Slot(node["NodeID"], "cpu", each, count)] * count
    if not found:
        raise InputError(f"no machine of the Ray cluster has {cpus or 1} CPU core(s) for a worker")
    return found


def _start(ray: Any, slot: Slot) -> Any:
    """A worker's actor. Ray makes it anew when its process is lost, and then calls again what it was at."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    resources = {"num_cpus": 1, "num_gpus": 1} if slot.kind == "gpu" else {"num_cpus": slot.devices}
    where = NodeAffinitySchedulingStrategy(slot.node, soft=False)
    options = {"max_restarts": -1, "max_task_retries": RETRIES, "scheduling_strategy": where}
    return ray.remote(Worker).options(**resources, **options).remote(slot)


def _await(ray: Any, actors: list[Any]) -> None:
    """Wait for the workers' processes. Raises ValueError where others keep the cluster to themselves."""
    ready = [actor.__ray_ready__.remote() for actor in actors]
    _, late = ray.wait(ready, num_returns=len(ready), timeout=START_SECONDS)
    if late:
        seconds = f"{START_SECONDS:.0f} s"
        raise InputError(f"{len(late)} of {len(ready)} workers did not start in {seconds}: is the Ray cluster busy?")


class _Sweep:
    """One call of the engine: what is left of the sweep, and which worker is at what."""

    def __init__(self, ray: Any, actors: dict[Any, Slot], plan: Plan, directory: Path, options: Options) -> None:
        self.ray, self.actors, self.plan, self.directory, self.options = ray, dict(actors), plan, directory, options
        self.waves = waves.found(plan, directory)
        self.begun = [wave for wave in self.waves if not wave.finished]  # of these, those that no worker is at
        self.left = waves.missing(plan, self.waves)
        self.whole = [len(members) for members in self.left]
        self.layouts: dict[tuple[Any, int], Layout] = {}  # of an actor and a group
        self.running: dict[Any, tuple[Any, Wave | int]] = {}  # an actor, and the wave it trains or the group it fits
        self.compile_s: dict[Any, float] = {}
        self.last_return = math.nan  # the mean of the wave that ended last

    def train(self, stop: Stop) -> tuple[float, int]:
        """Hand out waves until none is left; returns the seconds of compiling. Raises ValueError, Interruption."""
        members = sum(len(program.members) for program in self.plan.program_list)
        self._look()
        self._check_begun()
        label = f"{self.plan.base.env} {self.plan.base.agent} on {len(self.actors)} worker(s)"
        with Bar(label, members, self._done(), unit="members") as progress:
            self._employ()
            while self.running:
                self._wait(stop)
                self._employ()
                progress.update(self._done(), self.last_return)
        self._check_begun()
        return sum(self.compile_s.values()), len(self.compile_s) or 1

    def _look(self) -> None:
        """Have each worker see the directory."""
        arguments = self.directory, documents.read_config(self.directory), platform.versions()
        for actor, look in [(actor, actor.look.remote(*arguments)) for actor in self.actors]:
            try:
                self._result(look)
            except self.ray.exceptions.RayActorError as error:
                node, reason = self.actors[actor].node[:8], str(error).splitlines()[0]
                raise InputError(f"the worker on node {node} did not start: {reason}") from error

    def _check_begun(self) -> None:
        """Raises ValueError where a wave cannot go on anywhere here."""
        for wave in self.begun:
            if not any(slot.takes(wave) for slot in self.actors.values()):
                kind, devices = documents.read_config(wave.directory)["device"]["platform"], wave.layout.devices
                raise InputError(f"{wave.path} ran on {devices} {kind} device(s), as no worker has; see --cpus-per-worker")

    def _wait(self, stop: Stop) -> None:
        """Wait a moment, and note what workers that are done gave."""
        ready, _ = self.ray.wait(list(self.running), timeout=POLL_SECONDS)
        if stop.number:
            raise Interruption(f"stopped with {self._done()} members done", stop.number)
        for reference in ready:
            actor, job = self.running.pop(reference)
            try:
                result = self._result(reference)
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.ActorUnschedulableError) as error:
                self._lose(actor, job, error)
                continue
            if isinstance(job, Wave):
                self.last_return, self.compile_s[actor] = result
            else:
                self.layouts[actor, job] = result

    def _employ(self) -> None:
        """Give every idle worker something to do."""
        busy = {actor for actor, _ in self.running.values()}
        for actor in self.actors:
            if actor not in busy:
                self._next(actor)

    def _next(self, actor: Any) -> None:
        """Call a worker for a wave that was begun, else for new members, for whose layout it is asked first.

        What its like on the same machine compiles at this moment waits: afterwards that is in the compilation cache.
        (Measured, two workers of one core: 1.07 instead of 1.17 of a whole sweep's time without Ray.)
        """
        slot = self.actors[actor]
        begun = next((wave for wave in self.begun if slot.takes(wave)), None)
        if begun:
            self.begun.remove(begun)
            self._train(actor, begun)
            return
        alike = [job for other, job in self.running.values() if self.actors[other] == slot]
        left = [group for group, members in enumerate(self.left) if members]
        some = [group for group in left if (actor, group) in self.layouts or group not in alike]
        if not some:
            return
        asked = [group for _, group in (*self.layouts, *self.running.values())]  # rather what few others had to compile
        group = min(some, key=lambda group: ((actor, group) not in self.layouts, asked.count(group)))
        if (actor, group) in self.layouts:
            self._train(actor, self._cut(group, self.layouts[actor, group]))
        else:
            self.running[actor.fit.remote(self.directory, group, self._share(slot, group))] = actor, group

    def _share(self, slot: Slot, group: int) -> int:
        """Members of a wave at most: an equal part of the group, or of all that is left where that is more.

        Beside faster workers a CPU takes what it computes at once, no more.
        """
        fair = max(self.whole[group], sum(map(len, self.left)))
        share = min(math.ceil(fair / len(self.actors)), len(self.left[group]))
        mixed = len({other.kind for other in self.actors.values()}) > 1
        return min(share, BLOCK * slot.devices) if mixed and slot.kind == "cpu" else share

    def _cut(self, group: int, layout: Layout) -> Wave:
        """The next members of a group as a wave of that layout."""
        wave = self.plan.program_list[group].waves(self.plan.eval_every, self.left[group], layout)[0]
        wave = dataclasses.replace(wave, path=waves.new_path(self.directory, group, self.waves))
        self.waves.append(wave)
        self.left[group] = self.left[group][len(wave.members) :]
        return wave

    def _train(self, actor: Any, wave: Wave) -> None:
        call = actor.train.options(retry_exceptions=[Interruption])  # somebody stopped the worker alone
        arguments = self.directory, wave.program, wave.members, wave.layout, wave.path, self.options
        self.running[call.remote(*arguments)] = actor, wave

    def _lose(self, actor: Any, job: Wave | int, error: Exception) -> None:
        """A machine is lost for good: what its worker was at waits for another. Raises ValueError where there is none."""
        node = self.actors.pop(actor).node
        print(f"jaxrl: worker on node {node[:8]} is lost: {str(error).splitlines()[0]}", file=sys.stderr)
        if not self.actors:
            raise InputError(f"no worker is left; go on with: jaxrl resume {self.directory} --engine ray") from error
        if isinstance(job, Wave) and job.begun:
            self.begun.append(job)
        elif isinstance(job, Wave):
            self.waves.remove(job)
            self.left[job.program] = job.members + self.left[job.program]

    def _result(self, reference: Any) -> Any:
        """What a call gave. What was wrong with the input is said in one line; other errors bring the worker's traceback."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise

    def _done(self) -> int:
        """Members trained, those under way in part, as far as their checkpoints tell."""
        return math.floor(sum(len(wave.members) * waves.share_done(self.plan, wave) for wave in self.waves))
