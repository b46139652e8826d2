"""Tests of one worker process: how it starts, what it says, how it ends."""

import functools
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import pytest
import torch

from primordium.evaluators.worker import Outcome, Task, Worker


@contextmanager
def started(
    function: Callable[[Any], Any], initializer: Callable[[], Any] | None = None
) -> Iterator[tuple[Worker, Outcome | str | None]]:
    """A worker and its first message; ended at the end."""
    worker = Worker(function, initializer)
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
