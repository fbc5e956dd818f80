"""A cluster of Ray on this machine alone: its start, a second machine played by this one, and its busy workers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil


@contextlib.contextmanager
def cluster(workers: int = 2) -> Iterator[str]:
    """A cluster of this machine alone, with room for so many workers of one core: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--disable-usage-stats"]
    with _started(workers, *head):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def another_machine(address: str, workers: int) -> Iterator[subprocess.Popen]:
    """A second machine of a cluster, played by this one: the process above all of its processes."""
    with _started(workers, f"--address={address}") as process:
        yield process


@contextlib.contextmanager
def _started(workers: int, *words: str) -> Iterator[subprocess.Popen]:
    """`ray start` until the end.

    Workers have this process's environment, and its priority: Ray's own choice is to let others go first.
    """
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets lie there: their paths must be short
    program = str(Path(sys.executable).with_name("ray"))
    common = ["--block", f"--num-cpus={workers}", "--node-ip-address=127.0.0.1", "--dashboard-agent-listen-port=0"]
    common += [f"--temp-dir={home}"]
    with open(home / "out", "w") as out:
        environment = os.environ | {"RAY_worker_niceness": "0"}
        process = subprocess.Popen([program, "start", *common, *words], stdout=out, stderr=out, env=environment)
    try:
        while "Ray runtime started" not in (said := (home / "out").read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"Ray did not start: {said}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def busy_workers(address: str) -> list[psutil.Process]:
    """The processes of the cluster there that train a wave at this moment: Ray names them after what they are at."""
    port, found = address.rpartition(":")[2], []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith("ray::Worker.train"):
                parent = process.parent()
                found += [process] if parent and any(word.endswith(f":{port}") for word in parent.cmdline()) else []
    return found
