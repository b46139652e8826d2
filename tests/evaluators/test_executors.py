"""Tests of the executors: every job has one outcome, whatever its worker does, and no process stays."""

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import crashing_once, holding, is_held, marking, outcomes, py, wait_until
from scripts import script

import primordium
from primordium.errors import ConfigError, PrimordiumError
from primordium.evaluators.executors import (
    Job,
    ProcessExecutor,
    Resources,
    SerialExecutor,
    make_executor,
    usable_cpus,
)

KINDS = ["serial", "processes"]


# ---------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("kind", KINDS)
def test_every_job_has_one_outcome(kind: str) -> None:
    """Protects the contract: values and exceptions come back under the id of their job."""
    with make_executor(kind, eval, workers=2) as executor:
        found = outcomes(executor, ["6 * 7", "1 / 0", "{'a': (1, None)}", py("sys.exit(3)"), "None"])
    assert [found[id].reason for id in range(5)] == ["ok", "error", "ok", "error", "ok"]
    assert [found[id].value for id in range(5)] == [42, None, {"a": (1, None)}, None, None]
    assert [found[id].error is None for id in range(5)] == [True, False, True, False, True]
    assert all(outcome.seconds >= 0 for outcome in found.values())


def test_what_comes_of_a_job_does_not_depend_on_the_executor() -> None:
    """Protects replay: serial, one worker and three give the same values, reasons and error texts."""
    payloads = [f"{n} // ({n} % 3)" for n in range(12)]
    results = []
    for executor in (SerialExecutor(eval), ProcessExecutor(eval, 1), ProcessExecutor(eval, 3)):
        with executor:
            found = outcomes(executor, payloads)
        results.append([(found[id].value, found[id].reason, found[id].error) for id in range(12)])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_text_ends_where_the_error_is(kind: str) -> None:
    """Protects the log from endless tracebacks, and their reader from frames that tell nothing."""
    deep = "(lambda f: f(f, 50))(lambda f, n: f(f, n - 1) if n else [].pop())"
    with make_executor(kind, eval) as executor:
        found = outcomes(executor, [deep, "1 / 0"])
    assert "worker.py" not in str(found[1].error)
    error = found[0].error
    assert error is not None
    assert error.startswith("Traceback (most recent call last):")
    assert error.endswith("IndexError: pop from empty list")
    assert error.count("in <lambda>") + 2 == 5
    assert "Previous line repeated 2 more times" in error


@pytest.mark.parametrize("kind", KINDS)
def test_pending_counts_what_next_has_not_returned(kind: str) -> None:
    """Protects the engine's window: queued, running and finished jobs all count until they are taken."""
    with make_executor(kind, eval, workers=2) as executor:
        for id in range(4):
            assert executor.pending() == id
            executor.submit(Job(id, "1"))
        for left in (3, 2, 1, 0):
            executor.next()
            assert executor.pending() == left
        with pytest.raises(RuntimeError, match="no job pending: submit one first"):
            executor.next()


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_executor_takes_nothing(kind: str) -> None:
    """Protects against jobs that nobody will run; closing twice is no error."""
    executor = make_executor(kind, eval)
    executor.submit(Job(0, "1"))
    executor.close()
    executor.close()
    assert executor.pending() == 0
    with pytest.raises(RuntimeError, match="closed executor"):
        executor.submit(Job(1, "1"))


def test_make_executor_builds_what_the_configuration_names() -> None:
    """Protects the configuration: both kinds, and a clear error for any other."""
    with make_executor("serial", eval, workers=3) as serial, make_executor("processes", eval, 2) as processes:
        assert isinstance(serial, SerialExecutor)
        assert isinstance(processes, ProcessExecutor)
        assert (serial.workers, processes.workers) == (1, 2)
    with pytest.raises(ConfigError, match="'threads' is unknown: choose 'serial', 'processes' or 'ray'"):
        make_executor("threads", eval)


def test_a_missing_ray_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects who has not installed Ray: the one executor that needs it says how to get it."""
    for name in [name for name in sys.modules if name.startswith("primordium.evaluators.ray_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"pip install 'ray\[default\]', or choose executor.kind: processes"
    ):
        make_executor("ray", eval)


def test_executors_are_imported_without_ray() -> None:
    """Protects the start of every command: Ray is imported by those only who run on it."""
    source = "import sys, primordium.evaluators.executors; print('ray' in sys.modules)"
    with script(source) as process:
        assert process.communicate()[0].strip() == "False"


def test_processes_are_as_many_as_cpus_unless_told() -> None:
    """Protects the default, and its bound."""
    with make_executor("processes", eval) as executor:
        assert executor.workers == usable_cpus()
    with make_executor("processes", eval, 3, most=1) as executor:
        assert executor.workers == 1


@pytest.mark.parametrize("amounts", [{"cpus": -1}, {"gpus": 1.5}, {"gpus": float("nan")}, {"cpus": 2.5}])
def test_resources_that_no_cluster_has_are_refused(amounts: dict[str, float]) -> None:
    """Protects from workers that wait for ever: Ray gives shares of one, or whole ones."""
    with pytest.raises(ConfigError, match="a worker reserves 0 to 1, or a whole number above 1"):
        Resources(**amounts)


# ---------------------------------------------------------------------------------------------------- serial


def test_serial_runs_on_one_torch_thread_and_puts_the_number_back() -> None:
    """Protects equal results in debugging, and the caller's own setting."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with SerialExecutor(eval) as executor:
            found = outcomes(executor, [py("torch.get_num_threads()"), "1 / 0"])
        assert found[0].value == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_serial_passes_an_interrupt_on_and_keeps_the_job() -> None:
    """Protects Ctrl-C: it is the user's, not the job's, and the job can be run afterwards."""
    answers = iter([KeyboardInterrupt(), 5])

    def function(payload: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, KeyboardInterrupt):
            raise answer
        return answer

    with SerialExecutor(function) as executor:
        executor.submit(Job(1, None))
        with pytest.raises(KeyboardInterrupt):
            executor.next()
        assert executor.pending() == 1
        assert executor.next().value == 5


def test_serial_calls_its_initializer_before_any_job() -> None:
    """Protects functions that rely on what an initializer loads."""
    calls: list[str] = []
    with SerialExecutor(calls.append, initializer=lambda: calls.append("start")) as executor:
        outcomes(executor, ["job"])
    assert calls == ["start", "job"]


# ------------------------------------------------------------------------------------------ worker processes


def test_one_worker_takes_jobs_in_the_order_of_submission() -> None:
    """Protects fairness: the queue is first in, first out."""
    with ProcessExecutor(eval, 1) as executor:
        for id in (3, 1, 2, 0):
            executor.submit(Job(id, "1"))
        assert [executor.next().id for _ in range(4)] == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("last_words", "how"),
    [
        ("os._exit(7)", "exit code 7"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL, as the kernel does when"),
    ],
)
def test_a_crash_is_tried_once_more_and_then_reported(tmp_path: Path, last_words: str, how: str) -> None:
    """Protects the run from a job that takes its process down: two attempts, a reason, the others go on."""
    with ProcessExecutor(eval, 2) as executor:
        found = outcomes(executor, ["1", py(marking(tmp_path / "tries", last_words)), "2", "3"])
        assert outcomes(executor, ["4"])[0].value == 4
    assert [found[id].value for id in (0, 2, 3)] == [1, 2, 3]
    assert found[1].reason == "crashed"
    assert f"its worker process ended at both attempts: {how}" in str(found[1].error)
    assert (tmp_path / "tries").read_text() == "xx"


def test_a_crash_that_does_not_come_again_is_no_crash(tmp_path: Path) -> None:
    """Protects a candidate from blame for an unlucky worker; the second attempt is in a fresh process."""
    with ProcessExecutor(eval, 1) as executor:
        found = outcomes(
            executor, [py("os.getpid()"), py(crashing_once(tmp_path / "first")), py("os.getpid()")]
        )
    assert [found[id].reason for id in range(3)] == ["ok", "ok", "ok"]
    assert found[0].value != found[1].value == found[2].value


def test_a_worker_that_dies_between_jobs_is_replaced() -> None:
    """Protects later jobs from what an earlier one left ticking in its worker."""
    bomb = py("threading.Timer(0.05, os._exit, (1,)).start()")
    with ProcessExecutor(eval, 1) as executor:
        assert outcomes(executor, [bomb])[0].reason == "ok"
        assert outcomes(executor, [py("time.sleep(0.2)"), "2"])[1].value == 2


def test_a_job_that_takes_too_long_is_killed_and_not_tried_again(tmp_path: Path) -> None:
    """Protects the run from hung evaluations: killed as a process, reported, replaced, no second attempt."""
    hang = py(marking(tmp_path / "tries", holding(tmp_path / "held", "time.sleep(600)")))
    with ProcessExecutor(eval, 2, timeout=1.0) as executor:
        found = outcomes(executor, ["1", hang, "2"])
        assert not is_held(tmp_path / "held")
        assert outcomes(executor, ["3", "4"])[1].value == 4
    assert (found[0].value, found[2].value) == (1, 2)
    assert (found[1].reason, found[1].value) == ("timeout", None)
    assert found[1].error == "killed: it took longer than the 1 s allowed"
    assert found[1].seconds >= 1.0
    assert (tmp_path / "tries").read_text() == "x"


def test_an_outcome_that_has_come_is_not_timed_out_by_a_slow_driver() -> None:
    """Protects results from a busy driver: one that came in time counts, however late it is looked at."""
    slow_to_unpickle = (
        "[time.sleep(0.3), type('Slow', (), {'__reduce__': lambda self: (time.sleep, (1.5,))})()][1]"
    )
    with ProcessExecutor(eval, 2, timeout=1.0) as executor:
        found = outcomes(executor, [py(slow_to_unpickle), py("[time.sleep(0.5), 2][1]")])
    assert (found[0].reason, found[1].value) == ("ok", 2)


def test_starting_a_worker_does_not_count_as_time_of_a_job(tmp_path: Path) -> None:
    """Protects short time-outs, at a second attempt too: imports may take longer than a job."""
    with ProcessExecutor(eval, 1, timeout=1.0, initializer=functools.partial(time.sleep, 1.2)) as executor:
        assert outcomes(executor, [py(crashing_once(tmp_path / "first"))])[0].reason == "ok"


def test_what_cannot_be_pickled_is_an_error_of_its_own() -> None:
    """Protects the pool: such a result is the job's error, such a payload the caller's, and all goes on."""
    with ProcessExecutor(eval, 1) as executor:
        assert "pickle" in str(outcomes(executor, ["lambda: 0"])[0].error)
        with pytest.raises(TypeError, match="pickle"):
            executor.submit(Job(0, threading.Lock()))
        assert outcomes(executor, ["1"])[0].value == 1


def test_large_payloads_and_results_pass() -> None:
    """Protects against a pipe's 64 KiB: neither side waits for the other for ever."""
    with ProcessExecutor(len, 1) as executor:
        assert outcomes(executor, [b"x" * 3_000_000])[0].value == 3_000_000
    with ProcessExecutor(bytes, 2) as executor:
        assert all(
            len(outcome.value or b"") == 3_000_000 for outcome in outcomes(executor, [3_000_000] * 4).values()
        )


def test_the_initializer_runs_in_each_worker_before_its_jobs() -> None:
    """Protects functions that rely on what an initializer loads, in a replaced worker too."""
    initializer = functools.partial(os.putenv, "PRIMORDIUM_TEST", "loaded")
    shell = py("subprocess.getoutput('echo $PRIMORDIUM_TEST')")
    with ProcessExecutor(eval, 1, initializer=initializer) as executor:
        assert outcomes(executor, [py("os._exit(1)"), shell])[1].value == "loaded"


def test_a_worker_that_cannot_start_is_an_error_and_not_a_loop(tmp_path: Path) -> None:
    """Protects from starting broken workers for ever: a bad initializer is told, each time, and why."""
    initializer = functools.partial(os.mkdir, tmp_path / "once")
    with ProcessExecutor(eval, 1, initializer=initializer) as executor:
        executor.submit(Job(0, py("os._exit(1)")))
        for _ in range(2):
            with pytest.raises(PrimordiumError, match=r"cannot start:\n(?s:.*)FileExistsError"):
                executor.next()
            assert executor.pending() == 1


def test_a_worker_killed_while_it_starts_is_replaced(tmp_path: Path) -> None:
    """Protects a search from bad luck: a kernel short of memory may take a worker that has not begun."""
    script = tmp_path / "unlucky.py"
    script.write_text(
        "import os, pathlib, signal\n"
        f"first = pathlib.Path({str(tmp_path / 'first')!r})\n"
        "if not first.exists():\n"
        "    first.touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    initializer = functools.partial(runpy.run_path, str(script))
    with ProcessExecutor(eval, 1, initializer=initializer) as executor:
        assert outcomes(executor, ["6 * 7"])[0].value == 42
    assert (tmp_path / "first").exists()


def test_a_function_that_a_new_process_cannot_import_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the author of a function in a notebook or an unguarded script."""
    ghost = types.ModuleType("ghost")
    exec("def function(payload): return payload", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "ghost", ghost)
    with ProcessExecutor(ghost.function, 1) as executor:
        executor.submit(Job(0, "1"))
        with pytest.raises(
            PrimordiumError, match=r"ended while it started \(exit code 1\): .* must be importable"
        ):
            executor.next()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": lambda payload: payload}, "give a top-level function of a module"),
        ({"initializer": lambda: None}, "give a top-level function of a module"),
        ({"workers": 0}, "workers is 0: an executor needs 1 or more"),
        ({"timeout": 0.0}, "timeout is 0.0: give seconds above 0"),
        ({"timeout": float("nan")}, "timeout is nan: give seconds above 0"),
        ({"memory": 0.0}, "memory is 0.0: give GiB above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    """Protects the configuration: what cannot run is said before anything is started."""
    settings: dict[str, Any] = {"function": eval, "workers": 1} | arguments
    with pytest.raises(ConfigError, match=message):
        ProcessExecutor(**settings)


# --------------------------------------------------------------------------------------------------- endings


def test_close_ends_the_workers_at_once(tmp_path: Path) -> None:
    """Protects against processes that outlive the run: busy, idle and starting ones are gone on return."""
    with ProcessExecutor(eval, 2) as executor:
        executor.submit(Job(0, "1"))
        executor.submit(Job(1, py(holding(tmp_path / "held", "time.sleep(600)"))))
        executor.submit(Job(2, "2"))
        assert {executor.next().value, executor.next().value} == {1, 2}
        wait_until((tmp_path / "held").exists)
    assert not is_held(tmp_path / "held")
    assert multiprocessing.active_children() == []


def test_an_interrupt_reaches_the_driver_only_and_loses_no_job() -> None:
    """Protects Ctrl-C, which a terminal sends to all: workers go on, `next` raises and may be called on."""
    payload = py("[[os.kill(pid, 2) for pid in (os.getppid(), os.getpid())], os.getpid()][1]")
    with ProcessExecutor(eval, 1) as executor:
        executor.submit(Job(0, payload))
        with pytest.raises(KeyboardInterrupt):
            executor.next()
        assert executor.pending() == 1
        first = executor.next()
        assert first.reason == "ok"
        assert outcomes(executor, [py("os.getpid()")])[0].value == first.value


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    """Protects the machine: kill -9 of a driver leaves no orphans, neither sleeping nor busy ones."""
    waits = ["time.sleep(600)", "[0 for _ in iter(int, 1)]"]
    paths = [tmp_path / str(number) for number in range(len(waits))]
    source = f"""
from primordium.evaluators.executors import Job, ProcessExecutor
executor = ProcessExecutor(eval, 3)
for id, payload in enumerate({[py(holding(path, wait)) for path, wait in zip(paths, waits, strict=True)]!r}):
    executor.submit(Job(id, payload))
executor.next()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(primordium.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", source], env=environment) as driver:
        try:
            wait_until(lambda: all(path.exists() and path.read_text() == "x" for path in paths))
            assert all(is_held(path) for path in paths)
        finally:
            driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_held(path) for path in paths))
