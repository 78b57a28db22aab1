"""Workers die one at a time, and nobody waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from soct.compute.threads import available_cpus
from soct.errors import InputError
from soct.pipeline.workers.executors import LocalExecutor, WorkerDied, send_message


@pytest.fixture
def executor():
    made = LocalExecutor(2, {"SOCT_TEST_WORKER": "7"})
    yield made
    made.kill()


PATIENCE_S = 120.0
"""For what comes within a second or two on a machine that has nothing else to do."""


def double(number):
    return 2 * number


def variable(name):
    return os.environ.get(name)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def leave():
    os._exit(3)


def refuse():
    raise InputError("no", file="f", hint="h")


def unpicklable():
    return lambda: 0


def tell(numbers):
    for number in numbers:
        send_message(number)
    return "told"


def test_tasks_come_back_with_their_own_results(executor):
    futures = [executor.submit(double, n) for n in range(20)]
    assert [f.result(PATIENCE_S) for f in futures] == [2 * n for n in range(20)]
    assert len(executor.pids()) == 2


def test_a_worker_starts_with_its_environment_and_leaves_ours_alone(executor):
    assert executor.submit(variable, "SOCT_TEST_WORKER").result(PATIENCE_S) == "7"
    assert "SOCT_TEST_WORKER" not in os.environ


@pytest.mark.parametrize(("task", "text"), [(die, "SIGKILL"), (leave, "code 3")])
def test_a_dying_worker_fails_its_own_task_and_is_replaced(executor, task, text):
    other = executor.submit(time.sleep, 1.0)
    with pytest.raises(WorkerDied, match=text):
        executor.submit(task).result(PATIENCE_S)
    assert other.result(PATIENCE_S) is None
    assert executor.submit(double, 4).result(PATIENCE_S) == 8


def test_an_error_travels_home_with_all_its_parts(executor):
    with pytest.raises(InputError) as caught:
        executor.submit(refuse).result(PATIENCE_S)
    assert (caught.value.file, caught.value.hint) == ("f", "h")


def test_a_result_that_cannot_travel_is_an_error_and_no_hang(executor):
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        executor.submit(unpicklable).result(PATIENCE_S)
    assert executor.submit(double, 1).result(PATIENCE_S) == 2


def test_messages_arrive_before_the_result():
    heard = []
    executor = LocalExecutor(1, on_message=heard.append)
    assert executor.submit(tell, [1, 2, 3]).result(PATIENCE_S) == "told"
    executor.shutdown()
    assert heard == [1, 2, 3]


def test_kill_ends_what_runs_at_once(executor):
    future = executor.submit(time.sleep, 600)
    while not executor.pids():
        time.sleep(0.01)
    executor.kill()
    with pytest.raises(WorkerDied):
        future.result(PATIENCE_S)


def test_nothing_is_taken_after_shutdown(executor):
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(double, 1)


POOLS = """
from soct.compute.threads import limited, worker_environment
from soct.pipeline.workers.executors import LocalExecutor

def threads(wanted):
    import numba
    with limited(wanted):
        return numba.get_num_threads()

if __name__ == "__main__":
    for wanted in (1, 2, 64, 1):
        pool = LocalExecutor(1, worker_environment(wanted), ("numba",))
        print(wanted, pool.submit(threads, wanted).result(240))
        pool.shutdown()
"""


def test_a_later_pool_with_more_threads_gets_them_as_far_as_there_are_processors(tmp_path):
    # A process of its own: the one that workers are forked from is started by the first pool and outlives it.
    (tmp_path / "pools.py").write_text(POOLS)
    ended = subprocess.run(
        [sys.executable, tmp_path / "pools.py"], capture_output=True, text=True, check=True
    )
    for line in ended.stdout.splitlines():
        wanted, found = map(int, line.split())
        assert min(wanted, available_cpus()) <= found <= wanted
    assert len(ended.stdout.splitlines()) == 4


KILLED_WITH_A_KERNEL = """
import threading, time
from soct.pipeline.workers.executors import LocalExecutor, send_message

def calculate():
    import numba
    numba.get_num_threads()  # starts numba's threads, as the first parallel kernel does
    send_message("threads run")
    time.sleep(600)

if __name__ == "__main__":
    running = threading.Event()
    pool = LocalExecutor(1, {}, (), lambda message: running.set())
    pool.submit(calculate)
    print(running.wait(240))
    pool.kill()
"""


def test_a_worker_that_is_killed_amid_a_kernel_leaves_nothing_that_python_complains_about(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED_WITH_A_KERNEL)
    # What is left over is told when the last process has gone, by one that holds stderr until then.
    ended = subprocess.run(
        [sys.executable, tmp_path / "killed.py"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "True\n"
    assert ended.stderr == ""


def test_a_worker_whose_start_fails_with_its_server_is_told_as_dead(monkeypatch):
    def start(process: object) -> None:
        raise EOFError("unexpected EOF")

    for kind in ("ForkServerProcess", "SpawnProcess"):
        monkeypatch.setattr(f"multiprocessing.context.{kind}.start", start)
    with LocalExecutor(1) as executor:
        error = executor.submit(os.getpid).exception(timeout=PATIENCE_S)
    assert isinstance(error, WorkerDied)
    assert "while it started" in str(error)
