"""Tests of one worker process: how it starts, what it says, how it ends."""

import functools
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import pytest
import torch

from primordium.errors import ConfigError
from primordium.evaluators.worker import Outcome, Task, Worker, require_memory_limit, run


@contextmanager
def started(
    function: Callable[[Any], Any],
    initializer: Callable[[], Any] | None = None,
    memory: float | None = None,
) -> Iterator[tuple[Worker, Outcome | str | None]]:
    """A worker and its first message; ended at the end."""
    worker = Worker(function, initializer, memory)
    try:
        wait([worker.pipe])
        message = worker.hear()
        worker.ready = True
        yield worker, message
    finally:
        worker.process.kill()
        worker.end()


def answer(worker: Worker, payload: Any) -> Outcome | str | None:
    """What a worker says to a payload."""
    worker.begin(Task(1, pickle.dumps(payload)))
    wait([worker.pipe])
    return worker.hear()


def test_a_worker_reports_and_then_answers() -> None:
    """Protects the conversation: "" for ready, an outcome for each payload."""
    with started(eval) as (worker, message):
        assert message == ""
        for number in range(3):
            outcome = answer(worker, f"{number} + 1")
            assert isinstance(outcome, Outcome)
            assert (outcome.value, outcome.reason, outcome.error) == (number + 1, "ok", None)


@pytest.mark.parametrize("before", [None, "7"])
def test_a_worker_gets_one_thread_by_environment_and_the_parent_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """Protects throughput: two threads in each of two processes run many times slower than one."""
    if before is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with started(os.getenv) as (worker, _):
        assert os.environ.get("OMP_NUM_THREADS") == before
        found = [answer(worker, name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
    assert [outcome.value for outcome in found if isinstance(outcome, Outcome)] == ["1", "1"]


def test_torch_has_one_thread_in_a_worker() -> None:
    """Protects the one-thread rule where it matters: torch reads the environment when it is imported."""
    with started(eval) as (worker, _):
        outcome = answer(worker, "__import__('torch').get_num_threads()")
        assert isinstance(outcome, Outcome)
        assert outcome.value == 1


@pytest.mark.parametrize(
    ("initializer", "message"),
    [
        (functools.partial(torch.set_num_threads, 3), "torch runs on 3 threads in a worker, and must on 1"),
        (functools.partial(os.rmdir, "no such directory"), "FileNotFoundError"),
        (functools.partial(exit, 3), "SystemExit: 3"),
    ],
)
def test_a_worker_says_why_it_cannot_start(initializer: Callable[[], Any], message: str) -> None:
    """Protects the author of an initializer, and the rule of one thread from code that breaks it."""
    with started(eval, initializer) as (worker, said):
        assert isinstance(said, str)
        assert message in said
        wait([worker.process.sentinel])
        assert worker.hear() is None


@pytest.mark.parametrize(
    ("last_words", "how"),
    [
        ("os._exit(7)", "exit code 7"),
        ("os._exit(0)", "exit code 0"),
        ("os.abort()", "killed by SIGABRT"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL, as the kernel does when memory runs out"),
        ("os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
)
def test_a_death_is_heard_and_named(last_words: str, how: str) -> None:
    """Protects the report of a crash: what ended the process is what it says."""
    worker = Worker(exec, None)
    wait([worker.pipe])
    assert worker.hear() == ""
    worker.ready = True
    assert answer(worker, f"import os; {last_words}") is None
    assert worker.end() == how


def test_a_worker_that_hangs_on_without_its_pipe_is_ended() -> None:
    """Protects the driver from waiting for a process that lost its files: it sees to its end, or we do."""
    worker = Worker(exec, None)
    wait([worker.pipe])
    assert worker.hear() == ""
    worker.ready = True
    assert answer(worker, "import os, signal; os.closerange(3, 100)\nwhile True: signal.pause()") is None
    assert worker.end() in ("exit code 1", "killed by SIGKILL, as the kernel does when memory runs out")


# ------------------------------------------------------------------------------------------ kinds of errors


def raising(error: BaseException) -> Outcome:
    """What becomes of a job that raises it."""

    def function(payload: Any) -> Any:
        raise error

    return run(function, lambda: None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("shapes cannot be multiplied"), "error"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (ValueError("DefaultCPUAllocator: not enough memory"), "error"),
    ],
)
def test_running_out_of_memory_is_a_reason_of_its_own(error: BaseException, reason: str) -> None:
    """Protects the log's reader, who can give more memory; and the debugger's process, which nothing ends."""
    assert raising(error).reason == reason


@pytest.mark.parametrize(
    "failure",
    [
        "raise RuntimeError('CUDA error: an illegal memory access was encountered')",
        "raise RuntimeError('Triton Error [CUDA]: an illegal memory access was encountered')",
        "import torch; raise torch.AcceleratorError('CUDA error: device-side assert triggered')",
        """
try:
    raise RuntimeError('CUDA error: unspecified launch failure')
except RuntimeError as error:
    raise ValueError('the model failed') from error
""",
    ],
)
def test_an_error_that_spoils_the_gpu_ends_a_worker(failure: str) -> None:
    """Protects later jobs: CUDA refuses every call of a process after such an error."""
    worker = Worker(exec)
    wait([worker.pipe])
    assert worker.hear() == ""
    worker.ready = True
    assert answer(worker, failure) is None
    assert worker.end().startswith("exit code 70, for an error left its GPU unusable")


def test_running_out_of_a_gpu_s_memory_does_not_end_a_worker() -> None:
    """Protects from restarts that help nobody: such an error leaves the GPU as it was."""
    with started(exec) as (worker, _):
        outcome = answer(worker, "raise RuntimeError('CUDA error: out of memory')")
        assert isinstance(outcome, Outcome)
        assert outcome.reason == "memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_worker_lives_within_its_memory() -> None:
    """Protects the machine: what goes beyond the limit is the job's error, and the next job finds room."""
    with started(eval, memory=0.25) as (worker, message):
        assert message == ""
        found = [answer(worker, f"len(bytearray({size} * 2**20))") for size in (200, 300, 200)]
    assert [one.reason for one in found if isinstance(one, Outcome)] == ["ok", "memory", "ok"]


def test_a_limit_that_cannot_be_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from limits that would be none."""
    with pytest.raises(ConfigError, match="memory is -1: give GiB above 0"):
        require_memory_limit(-1)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="on Linux only"):
        require_memory_limit(2)
