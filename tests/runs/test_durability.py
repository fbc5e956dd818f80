"""A power cut at any moment of a save leaves an intact checkpoint, the one before or the new one; so does a full disk."""

import errno
import itertools
import os

import numpy as np
import pytest

from jaxrl.core import durable
from jaxrl.core.errors import InputError
from jaxrl.runs import documents, driver
from jaxrl.runs.checkpoint import Checkpoints
from jaxrl.sweeps import directory as sweeps
from jaxrl.sweeps.waves import Options
from tests.plans import ITERATIONS, small_plan
from tests.power_cut import CUTS, ForgetfulDisk

SAVES = 5  # with KEEP = 2, three of them remove one


def state(iteration):
    return {"weights": np.full(100, iteration, np.float32), "steps": np.int32(iteration)}


def restored(directory):
    """The iteration of the newest intact checkpoint, whose contents are those that were saved; None without one."""
    found = Checkpoints(directory).restore(state(0))
    if found is None:
        return None
    values, meta = found
    assert all(np.array_equal(values[name], x) for name, x in state(meta["iteration"]).items())
    return meta["iteration"]


def test_a_power_cut_at_any_moment_leaves_the_last_saved_state(tmp_path, monkeypatch):
    """In a directory that did not exist before, so that its own name must be synced too."""
    saved, seen = 0, []
    (tmp_path / "disk").mkdir()

    def at_cut(left, kind):
        found = restored(left / "run" / "checkpoints")
        assert found in ([None, 1] if saved == 0 else [saved, saved + 1]), f"{kind} of the names, {saved} saved"
        seen.append(found)

    with monkeypatch.context() as patch:
        disk = ForgetfulDisk(tmp_path / "disk", patch, tmp_path, at_cut)
        checkpoints = Checkpoints(tmp_path / "disk" / "run" / "checkpoints")
        for saved in range(SAVES):  # noqa: B007  read by at_cut
            checkpoints.save(saved + 1, state(saved + 1), {"iteration": saved + 1})
        saved = SAVES
        disk.cut()
    assert set(seen) == {None, *range(1, SAVES + 1)} and len(seen) > 4 * 5 * SAVES


def test_the_model_sees_what_is_not_synced(tmp_path, monkeypatch):
    """Without syncs a cut leaves damaged files, without those of folders none: the test above can fail."""

    def left(number):
        directory, found = tmp_path / str(number) / "disk" / "checkpoints", []
        directory.mkdir(parents=True)
        checkpoints = Checkpoints(directory)
        for i in (1, 2):
            checkpoints.save(i, state(i), {"iteration": i})
        with monkeypatch.context() as patch:
            at_cut = lambda after, _: found.append(restored(after / "checkpoints"))  # noqa: E731
            disk = ForgetfulDisk(directory.parent, patch, directory.parent.parent, at_cut)
            for i in (3, 4):  # which removes the first two
                checkpoints.save(i, state(i), {"iteration": i})
            disk.cut()
        return found

    assert None not in left(0)
    monkeypatch.setattr(durable, "sync_directory", lambda path: None)
    assert None in left(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(InputError, match="can be read"):
        left(2)


@pytest.mark.parametrize("operation", ["open", "fsync", "replace", "unlink"])
def test_a_full_disk_is_one_line_and_leaves_the_last_saved_state(operation, tmp_path, monkeypatch):
    """Each call of an operation of the system in turn fails; the next save goes through."""
    directory = tmp_path / "run" / "checkpoints"
    for number in itertools.count(1):
        checkpoints = Checkpoints(directory)
        for i in (1, 2):
            checkpoints.save(i, state(i), {"iteration": i})
        calls, real = itertools.count(1), getattr(os, operation)

        def fail(*args, calls=calls, real=real, number=number, **kwargs):
            if next(calls) == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, operation, fail)
            try:
                checkpoints.save(3, state(3), {"iteration": 3})
                break
            except InputError as error:
                assert str(error) == f"cannot write checkpoints to {directory}: No space left on device"
        assert restored(directory) in (2, 3)
        checkpoints.discard_after(0)
        assert list(directory.iterdir()) == []
    assert number > 1
    assert restored(directory) == 3


def test_a_file_that_would_be_too_large_is_no_checkpoint(tmp_path):
    """The system itself refuses to write on, in the middle of the file."""
    import resource
    import signal

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1), {"iteration": 1})
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
        with pytest.raises(InputError, match=f"^cannot write checkpoints to {tmp_path}: File too large$"):
            checkpoints.save(2, state(2), {"iteration": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert restored(tmp_path) == 1 and len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"^cannot write checkpoints to {tmp_path}/file/checkpoints: Not a directory$"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, state(1), {})


def test_a_power_cut_at_any_moment_of_a_run_leaves_what_can_be_gone_on_with(tmp_path, monkeypatch):
    """A checkpoint after each chunk of one iteration. Nothing of a run is there, or its settings are; each checkpoint has
    its rows; one directory that each kind of cut left in the middle is gone on with to the same end."""
    plan = small_plan()
    program = plan.program_list[0]
    template = program.waves(0)[0].template(program.compiled.trainer)
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    whole, disk, left_over = tmp_path / "whole", tmp_path / "disk", []
    sweeps.train(plan, whole, Options(0.0))
    rows = (whole / "metrics.jsonl").read_bytes()
    disk.mkdir()

    def at_cut(left, kind):
        out = left / "run"
        if not (out / "config.json").exists():
            assert not (out / "checkpoints").exists()
            return
        documents.read_config(out, "run")
        found = Checkpoints(out / "checkpoints").restore(template)
        done, size = (found[1]["iteration"], found[1]["metrics_bytes"]) if found else (0, 0)
        assert done >= max([0, *(before for _, before, _ in left_over)]) - 1, "what was synced is lost"
        if found:
            kept = (out / "metrics.jsonl").read_bytes()[:size]
            assert len(kept) == size and rows.startswith(kept)
        left_over.append((kind, done, out))

    with monkeypatch.context() as patch:
        forgetful = ForgetfulDisk(disk, patch, tmp_path, at_cut)
        sweeps.train(plan, disk / "run", Options(0.0))
        forgetful.cut()
    assert {done for _, done, _ in left_over} == set(range(ITERATIONS + 1))
    for kind in CUTS:
        out = next(out for each, done, out in left_over if each == kind and done == ITERATIONS // 2)
        sweeps.resume(out)
        assert (out / "metrics.jsonl").read_bytes() == rows, kind


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), durable.written(tmp_path / "a") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
