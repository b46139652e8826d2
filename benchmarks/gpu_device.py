"""What ``benchmarks/gpu.py`` measures on: clock, caches, copy and memory of a GPU, or a CPU to try it."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_FLUSH = 1 << 30
_COPY = 1 << 30
_LEAST, _MOST = 7, 50


class Times(NamedTuple):
    """Median seconds of a forward and of a backward.

    Attributes:
        forward, backward: each on its own, caches flushed before.
    """

    forward: float
    backward: float

    @property
    def both(self) -> float:
        """Their sum."""
        return self.forward + self.backward


class Device:
    """A GPU by CUDA events, or a CPU by the wall clock.

    Args:
        name: ``cuda`` or ``cpu``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cuda = name == "cuda"
        self._scratch = torch.empty(_FLUSH if self.cuda else 1 << 10, dtype=torch.uint8, device=name)

    def describe(self) -> str:
        """Device and versions."""
        words = [f"torch {torch.__version__}"]
        if self.cuda:
            import triton

            free, total = torch.cuda.mem_get_info()
            words = [
                torch.cuda.get_device_name(),
                f"{total / 2**30:.0f} GiB ({free / 2**30:.0f} free)",
                *words,
            ]
            words += [f"triton {triton.__version__}", f"CUDA {torch.version.cuda}"]
        return ", ".join(words)

    def mark(self) -> Any:
        """A point in time of the device."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Between two points in time, once :meth:`wait` was called."""
        return float(start.elapsed_time(end)) / 1e3 if self.cuda else float(end - start)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize()

    def flush(self) -> None:
        """Put other data into the caches; it also keeps the device busy while Python gets ahead of it."""
        self._scratch.zero_()

    def release(self) -> None:
        """Give cached memory back."""
        if self.cuda:
            torch.cuda.empty_cache()

    def copy_rate(self) -> float:
        """Bytes a second of a copy on the device, read and written ones counted."""
        source = torch.empty(_COPY if self.cuda else 1 << 20, dtype=torch.uint8, device=self.name)
        target = torch.empty_like(source)
        found = []
        for _ in range(20):
            start = self.mark()
            target.copy_(source)
            end = self.mark()
            self.wait()
            found.append(self.seconds(start, end))
        return 2 * source.numel() / statistics.median(found)

    def times(
        self, layer: Callable[[Tensor], Tensor], wrt: Sequence[Tensor], dy: Tensor, budget: float
    ) -> Times:
        """Time a layer.

        Args:
            layer: what is called on ``wrt[0]``.
            wrt: the input and the parameters.
            dy: the cotangent.
            budget: about how many seconds may be spent.
        """
        for _ in range(3):
            self._step(layer, wrt, dy)
        self.wait()
        start = time.perf_counter()
        self._step(layer, wrt, dy)
        self.wait()
        rounds = int(budget / max(time.perf_counter() - start, 1e-6))
        marks = [self._step(layer, wrt, dy) for _ in range(min(max(rounds, _LEAST), _MOST))]
        self.wait()
        ahead = [self.seconds(a, b) for a, b, _, _ in marks]
        back = [self.seconds(c, d) for _, _, c, d in marks]
        return Times(statistics.median(ahead), statistics.median(back))

    def _step(self, layer: Callable[[Tensor], Tensor], wrt: Sequence[Tensor], dy: Tensor) -> tuple[Any, ...]:
        self.flush()
        start = self.mark()
        y = layer(wrt[0])
        end = self.mark()
        self.flush()
        back = self.mark()
        torch.autograd.grad(y, wrt, dy, allow_unused=True)
        return start, end, back, self.mark()

    def peak(self, action: Callable[[], object]) -> int:
        """Bytes that an action takes beyond what is there before; 0 on a CPU, which does not count them."""
        if not self.cuda:
            action()
            return 0
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        self.wait()
        return torch.cuda.max_memory_allocated() - before
