"""Trainings that stop and go on: the same bits as without the stop, and no file in halves."""

import os
import signal
import threading

import numpy as np
import pytest
from bnpp.experiments import averages, files, models, training
from bnpp.experiments.data import Dataset, Images
from bnpp.experiments.figure1 import SigmoidInputs
from bnpp.experiments.interrupts import Interrupted, Stop, stop_on_signal
from bnpp.experiments.session import Session

STEPS = 24
RNG = np.random.default_rng(3)


def some_images(n):
    return Images(RNG.random((n, 1, 8, 8)).astype(np.float32), RNG.integers(0, 10, n))


# 3 mini-batches an epoch, so that a stop falls into the middle of one.
DATA = Dataset("some", some_images(190), some_images(50))


class Stopping:
    """A recorder that does what another does and calls a function after a given step."""

    def __init__(self, recorder, step, call):
        self.recorder, self.left, self.call = recorder, step, call

    def after_step(self, network):
        self.recorder.after_step(network)
        self.left -= 1
        if self.left == 0:
            self.call()

    def __getattr__(self, name):
        return getattr(self.recorder, name)


def make(kind="mlp", recorder=None, rate=0.1, seed=0):
    """A training of a small network, and what it is to be known by."""
    rng = np.random.default_rng(1)
    options = {"normalize": True, "rng": rng}
    if kind == "mlp":
        net, data = models.mlp((64, 8, 8, 10), activation="sigmoid", **options), DATA.rows()
    else:
        net, data = models.convnet((1, 3, 4), 10, activation="relu", **options), DATA
    recorders = {
        None: training.TestAccuracy,
        "percentiles": SigmoidInputs,
        "averages": lambda: averages.Averages(net),
    }
    return training.Training(
        net, data, learning_rate=rate, record_at=(5, 10, STEPS), seed=seed,
        recorder=recorders[recorder](),
    )  # fmt: skip


class Counted:
    """In the place of a bar of progress."""

    def __init__(self):
        self.steps = 0

    def update(self, steps):
        self.steps += steps


def run(run_, path, stop=None):
    progress = Counted()
    training.train(run_, path, {"what": "test"}, Stop() if stop is None else stop, progress)
    assert progress.steps == STEPS
    return contents(path)


def contents(path):
    arrays, about = files.load_arrays(path)
    del arrays["seconds"]
    return arrays, about


def assert_same(a, b):
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    for name, array in a[0].items():
        assert array.dtype == b[0][name].dtype
        assert np.array_equal(array, b[0][name]), name


KINDS = [("mlp", None), ("mlp", "percentiles"), ("mlp", "averages"), ("convnet", "averages")]


@pytest.mark.parametrize("at", [1, 7, 10, STEPS - 1])
@pytest.mark.parametrize(("kind", "recorder"), KINDS)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, kind, recorder, at):
    whole = run(make(kind, recorder), tmp_path / "whole.npz")
    stop, path = Stop(), tmp_path / "parts.npz"
    first = make(kind, recorder)
    first.recorder = Stopping(first.recorder, at, lambda: setattr(stop, "requested", True))
    with pytest.raises(Interrupted, match=f"after step {at} of {STEPS}"):
        run(first, path, stop)
    assert int(files.load_arrays(path)[0]["step"]) == at
    assert_same(run(make(kind, recorder), path), whole)
    assert_same(run(make(kind, recorder), path), whole)  # a finished run is read, not made again
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.npz", "whole.npz"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_two_steps(tmp_path, number):
    whole = run(make(), tmp_path / "whole.npz")
    before = signal.getsignal(number)
    stopped = make()
    stopped.recorder = Stopping(stopped.recorder, 6, lambda: os.kill(os.getpid(), number))
    path = tmp_path / "parts.npz"
    with stop_on_signal() as stop, pytest.raises(Interrupted):
        run(stopped, path, stop)
    assert stopped.step == 6
    assert signal.getsignal(number) is before
    assert_same(run(make(), path), whole)


def test_the_second_signal_does_not_wait():
    def twice():
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with stop_on_signal() as stop, pytest.raises(KeyboardInterrupt, match="at once"):
        twice()
    assert stop


def test_other_threads_have_no_signals():
    seen = []

    def other():
        with stop_on_signal() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [False]


def test_it_saves_now_and_then(tmp_path, monkeypatch):
    """An end that no signal announces costs the steps since the last saving, and nothing else."""
    whole = run(make(), tmp_path / "whole.npz")
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    killed = make()

    def end():
        raise MemoryError

    killed.recorder = Stopping(killed.recorder, 8, end)
    path = tmp_path / "parts.npz"
    with pytest.raises(MemoryError):
        run(killed, path)
    assert int(files.load_arrays(path)[0]["step"]) == 7
    assert_same(run(make(), path), whole)


def test_every_epoch_takes_each_image_once_in_a_new_order():
    run_, seen = make(), []
    for _ in range(6):
        seen.append(run_._batch())
        run_.step += 1
    epochs = [np.concatenate(seen[:3]), np.concatenate(seen[3:])]
    for epoch in epochs:
        assert len(set(epoch)) == 180
    assert not np.array_equal(*epochs)
    assert not np.array_equal(make(seed=1)._batch(), seen[0])


def test_a_run_that_diverges_ends_there(tmp_path):
    path = tmp_path / "run.npz"
    arrays, _ = run(make("convnet", rate=1e30), path)
    assert bool(arrays["diverged"])
    assert int(arrays["step"]) < STEPS
    assert_same(run(make("convnet", rate=1e30), path), contents(path))


def test_another_run_is_refused(tmp_path):
    path, progress = tmp_path / "run.npz", Counted()
    training.train(make(), path, {"seed": 1}, Stop(), progress)
    before = path.read_bytes()
    with pytest.raises(files.ExperimentError, match=r"run\.npz is of a run with seed 1, but .* 2"):
        training.train(make(), path, {"seed": 2}, Stop(), progress)
    assert path.read_bytes() == before


def test_restart_forgets(tmp_path):
    for restart, seed in ((False, 0), (True, 1)):
        session = Session(tmp_path, Stop(), restart)
        found = session.train(make(seed=seed), "run", {}, Counted())
        assert found.step == STEPS
    with pytest.raises(files.ExperimentError, match="seed 1, but this one has 0"):
        Session(tmp_path, Stop()).train(make(seed=0), "run", {}, Counted())


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "lacking"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "run.npz"
    run(make(), path)
    whole = path.read_bytes()
    if damage == "pickle":
        np.savez(path, about=np.array([{}], object))
    elif damage == "lacking":
        arrays, about = files.load_arrays(path)
        del arrays["network 0.weight"]
        files.save_arrays(path, arrays, about)
    else:
        path.write_bytes(
            {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"x"}[damage]
        )
    with pytest.raises(files.ExperimentError, match=r"run\.npz .* remove it to begin") as caught:
        run(make(), path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    files.write_text(path, "old")

    def full(file):
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(files.ExperimentError, match=r"cannot write .*file .No space left"):
        files.write_whole(path, full)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_while_writing_leaves_the_old_one(tmp_path):
    path = tmp_path / "file"
    files.write_text(path, "old")

    def interrupted(file):
        file.write(b"half of the new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, interrupted)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
