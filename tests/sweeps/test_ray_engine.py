"""Sweeps on a local Ray cluster of two workers: the bits of a sweep without Ray, through kills of workers and of drivers."""

import http.server
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from unittest import mock

import numpy as np
import psutil
import pytest

from benchmarks.harness.ray_cluster import another_machine, busy_workers, cluster
from jaxrl.cli import main as cli
from jaxrl.core.errors import InputError
from jaxrl.experiment.experiment import resolve
from jaxrl.sweeps import plan as plans
from jaxrl.sweeps import ray_engine, reading, waves
from tests import pages
from tests.command_line import SWEEP_WORDS as SMALL
from tests.command_line import command, jaxrl_cli, jaxrl_process, wait_for
from tests.small import assert_trees_equal

pytestmark = pytest.mark.usefixtures("keep_platform")
WORDS, MEMBERS = [*SMALL, "--total-steps", 200_000, "--eval-every", 100_000], 12
OFTEN = ["--checkpoint-every", 0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep without Ray."""
    out = tmp_path_factory.mktemp("local") / "whole"
    jaxrl_cli(*WORDS, "--out", out)
    return out


@pytest.fixture(scope="module")
def on_ray():
    """The flags for two workers of a core each."""
    with cluster() as address:
        yield ["--engine", "ray", "--ray-address", address, "--cpus-per-worker", 1]


@pytest.fixture(scope="module")
def swept(on_ray, tmp_path_factory):
    """The sweep on Ray, and what was printed."""
    out = tmp_path_factory.mktemp("ray") / "swept"
    return out, jaxrl_process(*WORDS, *on_ray, "--out", out, "--json")


def assert_same_sweep(a, b):
    """Equal to the bit: every member's rows, return and state."""
    a, b = reading.load(a), reading.load(b)
    assert a.metrics.keys() == b.metrics.keys()
    for name, x in a.metrics.items():
        np.testing.assert_array_equal(b.metrics[name], x, err_msg=name)
    np.testing.assert_array_equal(a.final_return, b.final_return)
    for member in np.ndindex(a.final_return.shape):
        assert_trees_equal(a.agent(*member)[1], b.agent(*member)[1])


def test_own_code_out_of_files_trains_on_ray_too(on_ray, tmp_path, monkeypatch):
    """An own agent, environment and callback out of docs/howto; the workers find their files."""
    pages.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "linear_q.py:make", "--env", "corridor.py:make", "--grid", "learning_rate=0.02,0.1",
             "--preset", "none", "--seeds", 2, "--total-steps", 6_000, "--eval-every", 2_000,
             "--callback", "solved.py:Solved(0.6)"]  # fmt: skip
    jaxrl_cli(*words, "--out", "local")
    jaxrl_process(*words, *on_ray, "--out", "ray")
    assert_same_sweep(tmp_path / "local", tmp_path / "ray")
    stopped = [json.loads(path.read_text()).get("stopped", "") for path in tmp_path.glob("ray/waves/*/summary.json")]
    assert any("solved" in reason for reason in stopped)


def members(out):
    """Of each wave: (configuration, seed)."""
    found = [json.loads(path.read_text())["members"] for path in sorted(out.glob("waves/*/config.json"))]
    return [[(member["config"], member["seed"]) for member in wave] for wave in found]


def test_members_are_those_of_the_sweep_without_ray(whole, swept):
    out, done = swept
    assert_same_sweep(whole, out)
    assert done.stdout.count("\n") == 1
    result, expected = json.loads(done.stdout), json.loads((whole / "summary.json").read_text())
    for name in ("agent", "env", "configs", "seeds", "env_steps", "programs", "final_return", "diverged"):
        assert result[name] == expected[name]
    assert result["compile_s"] > 0 and result["run_s"] > 0


def test_each_worker_planned_its_share(swept):
    """Two programs of six members each and two workers: one each, laid over the worker's one core."""
    out, done = swept
    assert sorted(map(len, members(out))) == [6, 6]
    configs = [json.loads(path.read_text()) for path in out.glob("waves/*/config.json")]
    assert [config["program"] for config in configs] == [{"form": "vmap", "devices": 1, "width": 6}] * 2
    assert f"{MEMBERS}/{MEMBERS} members (100 %)" in done.stderr


def test_other_commands_take_its_directory(swept, tmp_path, capsys):
    out, _ = swept
    assert {path.name for path in out.iterdir()} == {"config.json", "waves", "summary.json", "curves.png", "effects.png"}
    assert cli.main(["eval", str(out), "--episodes", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"] == reading.load(out).best()
    assert cli.main(["plot", str(out), "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").exists() and (tmp_path / "effects.png").exists()


def test_a_killed_worker_is_started_again_and_nothing_is_trained_twice(whole, on_ray, tmp_path):
    """kill -9 of a worker, then SIGTERM, at random moments: the sweep ends by itself, each wave once."""
    out, finished, killed = tmp_path / "killed", {}, 0
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(command(*WORDS, *on_ray, *OFTEN, "--out", out), stdout=said, stderr=said)
    for _ in range(3):
        known = set(out.glob("waves/*/checkpoints/[0-9]*"))
        wait_for(lambda: set(out.glob("waves/*/checkpoints/[0-9]*")) - known, process)  # noqa: B023
        time.sleep(random.random() * 0.3)
        for path in out.glob("waves/*/summary.json"):
            assert path.stat().st_mtime_ns == finished.setdefault(path, path.stat().st_mtime_ns)
        for worker in random.sample(alive := busy_workers(on_ray[3]), min(1, len(alive))):
            worker.send_signal(signal.SIGTERM if killed else signal.SIGKILL)
            killed += 1
    assert killed
    assert process.wait(timeout=240) == 0, (tmp_path / "said").read_text()
    for path, modified in finished.items():
        assert path.stat().st_mtime_ns == modified
    assert sorted(sum(members(out), [])) == sorted(sum(members(whole), []))
    assert_same_sweep(whole, out)


@pytest.mark.release
def test_a_machine_that_is_lost_for_good_leaves_its_wave_to_another(whole, tmp_path, monkeypatch):
    """Every process of the second machine is killed, once it has a checkpoint."""
    monkeypatch.setenv("RAY_health_check_period_ms", "500")  # else Ray waits half a minute for it
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "500")
    out = tmp_path / "lost"
    with cluster(1) as address, another_machine(address, 1) as machine, open(tmp_path / "said", "w") as said:
        ray = ["--engine", "ray", "--ray-address", address]
        process = subprocess.Popen(command(*WORDS, *ray, *OFTEN, "--out", out), stdout=said, stderr=said)
        wait_for(lambda: len({path.parts[-3] for path in out.glob("waves/*/checkpoints/[0-9]*")}) == 2, process)
        for one in psutil.Process(machine.pid).children(recursive=True):
            one.kill()
        assert process.wait(timeout=240) == 0, (tmp_path / "said").read_text()
    assert (tmp_path / "said").read_text().count("is lost: ") == 1
    assert sorted(map(len, members(out))) == [6, 6]
    assert_same_sweep(whole, out)


@pytest.mark.exact
@pytest.mark.release
def test_a_killed_driver_is_gone_on_with(whole, on_ray, tmp_path):
    """With Ray, and when that driver is killed, too, without."""
    out = tmp_path / "killed"
    for words in (*WORDS, "--out", out), ("resume", out):
        known = set(out.glob("waves/*/checkpoints/[0-9]*"))
        process = subprocess.Popen(command(*words, *on_ray, *OFTEN), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: set(out.glob("waves/*/checkpoints/[0-9]*")) - known, process)  # noqa: B023
        process.kill()
        process.wait()
        assert not (out / "summary.json").exists()
    jaxrl_cli("resume", out)
    assert sorted(sum(members(out), [])) == sorted(sum(members(whole), []))
    assert_same_sweep(whole, out)


def test_a_signal_stops_the_workers_and_says_how_to_go_on(on_ray, tmp_path):
    out = tmp_path / "stopped"
    words = command(*WORDS, "--total-steps", 4_000_000, *on_ray, *OFTEN, "--out", out)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(out.glob("waves/*/checkpoints/[0-9]*")), process)
    running = busy_workers(on_ray[3])
    assert running
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert f"go on with: jaxrl resume {out}" in printed.splitlines()[-1]
    assert not psutil.wait_procs(running, timeout=60)[1]


def test_the_library_takes_an_engine(on_ray, tmp_path):
    """In a process of its own, for warnings of Ray's are not ours."""
    program = f"""
import jaxrl
words = dict(grid={{"learning_rate": [0.1, 0.5]}}, seeds=2, total_steps=2000, preset="none")
swept = jaxrl.sweep("q_learning", "CliffWalking", **words, out="{tmp_path / "out"}", engine="ray")
alone = jaxrl.sweep("q_learning", "CliffWalking", **words)
assert all((swept.metrics[name] == x).all() for name, x in alone.metrics.items() if name == "env_steps")
assert (swept.final_return == alone.final_return).all() and len(list(swept.plan.program_list)) == 1
"""
    environment = os.environ | {"RAY_ADDRESS": on_ray[3]}
    assert subprocess.run([sys.executable, "-c", program], env=environment, timeout=240).returncode == 0


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


BAD = [
    (["--engine", "ray", "--ray-address", f"127.0.0.1:{closed_port()}"], "no Ray cluster answers at 127.0.0.1:"),
    (["--engine", "ray", "--ray-address", "head"], "Ray address 'head' must look like HOST:PORT"),
    (["--ray-address", "127.0.0.1:6379"], "--ray-address needs --engine ray"),
    (["--cpus-per-worker", "2"], "--cpus-per-worker needs --engine ray"),
    (["--engine", "ray", "--cpus-per-worker", "0"], "cpus_per_worker = 0 is out of range"),
    (["--engine", "rya"], "rya"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxrl.devices.programs.Programs.chunk", property(lambda self: pytest.fail("compiled")))
    assert cli.main([*map(str, WORDS), *words, "--out", "x"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err.splitlines()[-1] and printed.err.count("jaxrl: error") == 1
    assert not list(tmp_path.iterdir())


def test_another_server_is_told_from_ray(tmp_path, capsys):
    """Ray itself would ask it for minutes."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        words = ["--engine", "ray", "--ray-address", address, "--out", str(tmp_path / "x")]
        assert cli.main([*map(str, WORDS), *words]) == 2
        server.shutdown()
    assert f"what answers at {address} is not a Ray cluster; start one with" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_without_the_extra_its_name_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main([*map(str, WORDS), "--engine", "ray", "--out", str(tmp_path / "x")]) == 2
    assert "--engine ray needs the extra: pip install 'jaxrl[ray]'" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_it_is_for_sweeps_alone(whole, capsys):
    assert cli.main(["resume", str(whole / "waves" / "0-0"), "--engine", "ray"]) == 2
    assert "--engine ray is for sweeps" in capsys.readouterr().err


def node(name, cpus, gpus=0, alive=True):
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": float(cpus), **({"GPU": float(gpus)} if gpus else {})}}


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [
        (None, [("a", "cpu", 8, 1), ("b", "gpu", 1, 1), ("b", "gpu", 1, 1)]),
        (4, [("a", "cpu", 4, 2), ("a", "cpu", 4, 2), ("b", "gpu", 1, 1), ("b", "gpu", 1, 1), ("b", "cpu", 4, 1)]),
    ],
)
def test_workers_of_unlike_machines(cpus, expected):
    """8 cores; 7 cores and 2 GPUs, whose processes take a core each; a machine that is gone."""
    found = ray_engine.slots([node("a", 8), node("b", 7, 2), node("c", 8, alive=False)], cpus)
    assert [tuple(slot) for slot in found] == expected


@pytest.mark.parametrize(("nodes", "programs", "busy"), [("aa", 1, 1), ("ab", 1, 2), ("aa", 2, 2), ("aaa", 2, 2)])
def test_of_workers_that_are_alike_one_compiles_a_program(nodes, programs, busy, tmp_path):
    """The others wait for it, or turn to another program; on another machine there may be another cache."""
    actors = {mock.Mock(): ray_engine.Slot(node, "cpu", 1, 2) for node in nodes}
    base = resolve("q_learning", "CliffWalking", total_steps=200, preset="none")
    plan = plans.make(base, [{"num_envs": n + 1} for n in range(programs)], 4, 0, fit=False)
    sweep = ray_engine._Sweep(None, actors, plan, tmp_path, waves.Options())
    sweep._employ()
    fitted = sorted(group for _, group in sweep.running.values())
    assert len(fitted) == busy and set(fitted) == set(range(programs))


def test_no_room_for_a_worker():
    with pytest.raises(InputError, match=r"no machine of the Ray cluster has 16 CPU cores for a worker"):
        ray_engine.slots([node("a", 8)], 16)
