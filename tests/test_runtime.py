"""Instruction sets, threads, processes and signals: nothing hangs, and no bit depends on them."""

import _thread
import os
import signal
import subprocess
import sys
import threading
import time

import bnpp
import numpy as np
import pytest
from bnpp import _core
from helpers.shapes import Case, data

CASE = Case((4, 8, 50, 50), 1, "several blocks for several threads")


def run(code, **environment):
    """Run code in a fresh process that must end; returns the finished process."""
    env = {k: v for k, v in os.environ.items() if k not in ("BNPP_ISA", "OMP_NUM_THREADS")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=env | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def result(x, gamma, beta, residual, dy):
    """All outputs of one forward and backward."""
    y, saved = bnpp.batch_norm(x, gamma, beta, residual=residual, activation="relu")
    return [y, saved.mean, saved.var, *bnpp.batch_norm_backward(dy, saved)]


def assert_same(found, expected):
    """Every array equal, bit for bit."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a, b)


def test_show_config(capsys):
    config = bnpp.show_config("dicts")
    assert config["isa"] == bnpp.get_isa()
    assert tuple(config["usable_isas"]) == bnpp.usable_isas()
    assert config["threads"] == bnpp.get_threads()
    assert config["bnpp"] == bnpp.__version__
    assert any("compiler" in key for key in config)
    assert any("build" in key for key in config)
    assert bnpp.show_config() is None
    printed = capsys.readouterr().out
    for key in config:
        assert key in printed
    with pytest.raises(ValueError, match=r"show_config: mode.*json"):
        bnpp.show_config("json")


def test_isas():
    isas = bnpp.usable_isas()
    assert isas
    assert len(set(isas)) == len(isas)
    for name in isas:
        before = bnpp.get_isa()
        assert bnpp.set_isa(name) == before
        assert bnpp.get_isa() == name
    with pytest.raises(ValueError, match=rf"set_isa: .*mmx.*{isas[-1]}"):
        bnpp.set_isa("mmx")
    assert bnpp.get_isa() == isas[-1]
    with pytest.raises(TypeError):
        bnpp.set_isa(3)


def test_the_best_isa_is_the_default():
    done = run("import bnpp; print(bnpp.get_isa(), bnpp.usable_isas()[0])")
    assert len(set(done.stdout.split())) == 1, done.stderr


@pytest.mark.parametrize("name", bnpp.usable_isas())
def test_the_environment_chooses_the_isa(name):
    done = run("import bnpp; bnpp.moments([[1.0]]); print(bnpp.get_isa())", BNPP_ISA=name)
    assert done.stdout.split() == [name], done.stderr


@pytest.mark.parametrize(
    "use", ["moments([[1.0], [2.0]])", "batch_norm([[1.0], [2.0]])", "get_isa()"]
)
def test_an_unknown_isa_in_the_environment_is_an_error_at_the_first_use(use):
    done = run(f"import bnpp; print('imported'); bnpp.{use}", BNPP_ISA="pentium")
    assert done.returncode == 1
    assert done.stdout == "imported\n"
    last = done.stderr.splitlines()[-1]
    assert "ValueError" in last
    assert "BNPP_ISA" in last
    assert "pentium" in last
    assert bnpp.usable_isas()[-1] in last, "what there is"


def test_a_thread_limit_nests_and_ends():
    free = bnpp.get_threads()
    with bnpp.thread_limit(5):
        assert bnpp.get_threads() == 5
        with bnpp.thread_limit(2):
            assert bnpp.get_threads() == 2
        assert bnpp.get_threads() == 5
        with pytest.raises(ZeroDivisionError), bnpp.thread_limit(3):
            1 / 0  # noqa: B018
        assert bnpp.get_threads() == 5
    assert bnpp.get_threads() == free


def test_a_thread_limit_is_of_its_thread_only():
    free, seen = bnpp.get_threads(), []
    with bnpp.thread_limit(free + 1):
        other = threading.Thread(target=lambda: seen.append(bnpp.get_threads()))
        other.start()
        other.join()
    assert seen == [free]


@pytest.mark.parametrize(
    ("n", "exception"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_refused_thread_limits(n, exception):
    free = bnpp.get_threads()
    with pytest.raises(exception), bnpp.thread_limit(n):
        pass
    assert bnpp.get_threads() == free


def test_omp_num_threads_is_honoured():
    code = "import bnpp; print(bnpp.get_threads())"
    assert run(code, OMP_NUM_THREADS="1").stdout == "1\n"
    if len(os.sched_getaffinity(0)) > 1:
        assert run(code, OMP_NUM_THREADS="2").stdout == "2\n"


def test_threadpoolctl_is_honoured_at_every_call():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    if _core.build_info().get("parallel") != "openmp":
        pytest.skip("this build does not use OpenMP")
    free = bnpp.get_threads()
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert bnpp.get_threads() == 1
    with threadpoolctl.threadpool_limits(3, user_api="openmp"):
        assert bnpp.get_threads() == 3
        with bnpp.thread_limit(2):
            assert bnpp.get_threads() == 2
    assert bnpp.get_threads() == free


FORK = """
import multiprocessing, os
import numpy as np, bnpp
bnpp._core.set_min_work(1)
x = np.random.default_rng(0).standard_normal((4, 8, 50, 50)).astype(np.float32)

def child(_):
    with bnpp.thread_limit(4):
        y, saved = bnpp.batch_norm(x, activation="relu")
        return y.tobytes(), bnpp.batch_norm_backward(x, saved).dx.tobytes()

with bnpp.thread_limit(4):
    expected = child(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert all(found == expected for found in pool.map(child, range(6)))
    assert child(0) == expected
    pid = os.fork()
    if pid == 0:  # a fork of C's own kind, and one more inside
        os._exit(0 if child(0) == expected and (os.fork() or child(0) == expected) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert child(0) == expected
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_hang():
    done = run(FORK)
    assert done.stdout == "done\n", done.stderr


def test_eight_python_threads_at_once():
    inputs = [data(CASE, np.float32, seed) for seed in range(8)]
    expected = [result(*i) for i in inputs]
    _core.set_min_work(1)
    found = [[] for _ in inputs]
    together = threading.Barrier(8)

    def work(k):
        with bnpp.thread_limit(k % 3 + 1):
            together.wait()
            for _ in range(10):
                found[k].append(result(*inputs[k]))

    workers = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    for runs, wanted in zip(found, expected, strict=True):
        assert len(runs) == 10
        for one in runs:
            assert_same(one, wanted)


def test_isas_may_change_under_running_calls():
    """All tables give the same bits, so a switch in another thread cannot be seen."""
    inputs = data(CASE)
    expected, stop = result(*inputs), threading.Event()

    def switch():
        while not stop.is_set():
            for name in bnpp.usable_isas():
                bnpp.set_isa(name)

    other = threading.Thread(target=switch)
    other.start()
    try:
        for _ in range(30):
            assert_same(result(*inputs), expected)
    finally:
        stop.set()
        other.join()


CALLS = {
    "batch_norm": lambda x, saved, frozen: bnpp.batch_norm(x),
    "backward": lambda x, saved, frozen: bnpp.batch_norm_backward(x, saved),
    "inference": lambda x, saved, frozen: bnpp.batch_norm_inference(x, None, None, *frozen),
    "moments": lambda x, saved, frozen: bnpp.moments(x),
}


@pytest.mark.parametrize("kind", CALLS)
def test_the_gil_is_released(kind):
    """Another Python thread gets on while a call runs, and nothing else makes this one yield."""
    x = data(Case((16, 16, 112, 112), 1, ""))[0]
    saved = bnpp.batch_norm(x)[1]
    frozen = saved.mean, saved.var
    ticks, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            ticks[0] += 1
            time.sleep(0)  # gives the GIL back by itself

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    other = threading.Thread(target=count)
    try:
        other.start()
        progress = 0
        for _ in range(50):
            before = ticks[0]
            CALLS[kind](x, saved, frozen)
            progress += ticks[0] - before
        assert progress > 0
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        other.join()


def call_for_ever(layer, x):
    """Until a signal ends it."""
    while True:
        layer(x)


def test_a_keyboard_interrupt_leaves_everything_usable():
    inputs = data(CASE)
    expected = result(*inputs)
    layer = bnpp.BatchNorm(8)
    timer = threading.Timer(0.2, _thread.interrupt_main)
    # Where a shell runs the tests in the background it has the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            call_for_ever(layer, inputs[0])
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same(result(*inputs), expected)
    assert layer.count > 0
    after = layer.count
    assert np.array_equal(layer(inputs[0]), bnpp.batch_norm(inputs[0])[0])
    assert layer.count == after + 1


def test_numpy_is_all_that_is_needed():
    """What else is installed cannot be imported, and is not missed."""
    program = """if True:
        import sys

        class NumPyOnly:
            def find_spec(self, name, path=None, target=None):
                top = name.partition(".")[0]
                if top in sys.stdlib_module_names or top in ("numpy", "bnpp"):
                    return None
                raise ModuleNotFoundError(f"{name} is not to be imported", name=name)

        sys.meta_path.insert(0, NumPyOnly())
        import bnpp
        bnpp.BatchNorm(2).eval().train()
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
