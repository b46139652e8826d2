"""Which back end runs a graph on the CPU: the tape where it is expected to take less time than torch.

A function of the graph, the sizes, the number type and the number of torch's threads, and never of a clock:
another process decides the same, so that runs can be repeated to the last bit. Either side costs a number of
microseconds a call and a number of nanoseconds an element; torch shares its elements among its threads, the
machine has one. ``benchmarks/tape.py --choice`` prints both sides beside what they really take.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from primordium.kernels.tape import TapeProgram
from primordium.kernels.tape.function import Call, Program, TapeLayer, tape_layer
from primordium.kernels.tape.values import ALL, ELEMENTWISE, elementwise_operation
from primordium.primitives import axes as ax
from primordium.primitives.axes import AxisSet
from primordium.primitives.graph import Graph
from primordium.primitives.primitive import PRIMITIVES

MARGIN = 0.85
"""The tape must be expected to take less than this part of torch's time."""

_TORCH_CALL = 1.6  # µs of one torch function
_TORCH_BACKWARD = 7.0  # µs more for its node in the graph and its derivative
_TAPE_CALL, _TAPE_LEAF = 20.0, 4.0  # µs of one call, and of every leaf
_TAPE_BACKWARD, _TAPE_GRADIENT = 50.0, 6.0  # µs of the backward call, and of every gradient
_TAPE_ARRAY = 0.22  # ns an element to bring an array to the machine or back
_TAPE_COPY = 2.0  # ns an element more for one that is not contiguous, and for what comes out contiguous then
_GRAIN = 32_768  # elements that torch gives a thread at least
_KEPT = 256  # decisions that are remembered


class Torch(NamedTuple):
    """What a primitive costs in torch.

    Attributes:
        calls: functions that it calls.
        forward, backward: ns an element of the value that it makes (of its operand, for statistics).
    """

    calls: int
    forward: float
    backward: float


_CHEAP = Torch(1, 0.25, 0.8)
# One core, float32, elements in the second-level cache; float64 takes twice as long.
_TORCH: dict[str, Torch] = {
    "abs": Torch(1, 0.25, 1.5),
    "square": Torch(1, 0.25, 2.5),
    "cube": Torch(2, 0.5, 3.0),
    "expm1": Torch(1, 0.4, 1.2),
    "log": Torch(3, 1.4, 3.5),
    "log_safe": Torch(6, 3.5, 2.6),
    "log1p": Torch(7, 4.0, 5.0),
    "sin": Torch(1, 0.5, 1.6),
    "cos": Torch(1, 0.5, 1.6),
    "sinc": Torch(2, 1.0, 4.0),
    "sinh": Torch(1, 1.2, 2.0),
    "cosh": Torch(1, 1.2, 2.0),
    "asinh": Torch(1, 15.0, 2.0),
    "atan": Torch(1, 0.4, 1.5),
    "sigmoid": Torch(1, 0.4, 0.9),
    "softplus": Torch(1, 1.4, 1.0),
    "gauss": Torch(3, 0.8, 2.3),
    "erf": Torch(1, 0.5, 2.0),
    "sqrt": Torch(3, 1.2, 4.0),
    "sqrt_safe": Torch(3, 1.2, 4.5),
    "mul": Torch(1, 0.25, 1.4),
    "div": Torch(1, 0.3, 1.6),
    "div_safe": Torch(4, 1.2, 5.5),
    "pow": Torch(4, 4.0, 10.0),
    "max": Torch(1, 0.3, 5.0),
    "min": Torch(1, 0.3, 5.0),
    "greater": Torch(2, 0.4, 0.0),
    "equal": Torch(2, 0.4, 0.0),
    "where": Torch(2, 0.5, 1.5),
    "sum": Torch(1, 0.15, 0.8),
    "mean": Torch(1, 0.15, 0.8),
    "var": Torch(1, 5.0, 1.0),
    "std": Torch(3, 5.0, 1.5),
    "rms": Torch(3, 0.4, 3.0),
    "amax": Torch(1, 0.2, 3.0),
    "amin": Torch(1, 0.2, 3.0),
}
_ALONG = Torch(4, 3.0, 6.0)
_MACHINE = {
    **{"exp": 0.15, "expm1": 0.2, "log": 0.6, "log_safe": 0.3, "log_positive": 0.4, "log1p": 0.6},
    **{"sin": 0.4, "cos": 0.4, "sinc": 0.5, "sinh": 0.95, "cosh": 0.3, "tanh": 0.7, "asinh": 0.8},
    **{"atan": 0.4, "sigmoid": 0.2, "softplus": 0.9, "gauss": 0.2, "erf": 0.6, "sqrt": 0.12},
    **{"sqrt_safe": 0.2, "div_safe": 0.12, "pow": 4.3, "pow_positive": 4.0, "var": 0.3, "std": 0.3},
    **{"index": 0.5, "cumsum": 1.5, "argsort": 60.0, "cumargmax": 2.0, "gather": 2.0, "scatter": 3.0},
}
_MACHINE_STEP = 0.08
_IN_DOUBLE = {
    "sin": 9.0,
    "cos": 9.0,
    "sinc": 9.0,
    "atan": 8.0,
    "erf": 10.5,
    "pow": 14.0,
    "pow_positive": 14.0,
}
"""What calls the C library's function in float64."""

_AXES = (ax.B, ax.G, ax.CHANNEL_IN_GROUP, ax.S)


class Cost(NamedTuple):
    """What one way takes: microseconds a call, and nanoseconds an element of values by their axes."""

    call: float
    elements: Mapping[AxisSet, float]

    def microseconds(self, sizes: Sequence[int], threads: int) -> float:
        """The time on ``[B, G, c, S]``."""
        total = self.call
        for axes, nanoseconds in self.elements.items():
            count = 1
            for size, axis in zip(sizes, _AXES, strict=True):
                count *= size if axes & axis else 1
            total += 1e-3 * nanoseconds * count / min(threads, max(1, count // _GRAIN))
        return total


def torch_cost(view: Graph, double: bool, backward: bool) -> Cost:
    """What a view takes in torch, function by function."""
    call, elements = 0.0, defaultdict[AxisSet, float](float)
    for index in view.live:
        op, args, attrs = view.nodes[index]
        if not args:
            continue
        kind = PRIMITIVES[op].kind
        name = elementwise_operation(op, attrs)[0] if op in ELEMENTWISE else op
        cost = _ALONG if kind == "along" else _TORCH.get(name, _CHEAP)
        axes = view.axes[args[0]] | view.axes[index]
        call += cost.calls * (_TORCH_CALL + backward * _TORCH_BACKWARD)
        elements[axes] += (1 + double) * (cost.forward + backward * cost.backward)
    return Cost(call, elements)


def tape_cost(programs: Sequence[TapeProgram], double: bool, dense: bool) -> Cost:
    """What a forward program, and its gradient program if there is one, take."""
    call, elements = 0.0, defaultdict[AxisSet, float](float)
    for number, program in enumerate(programs):
        call += _TAPE_BACKWARD if number else _TAPE_CALL
        call += _TAPE_LEAF * len(program.inputs) + number * _TAPE_GRADIENT * len(program.outputs)
        for axes in program.arrays:
            elements[axes] += _TAPE_ARRAY * (1 + double)
        elements[ALL] += 0.0 if dense else (1 + double) * (1 + number) * _TAPE_COPY
        for name, axes in program.steps:
            single = _MACHINE.get(name, _MACHINE_STEP)
            elements[axes] += _IN_DOUBLE.get(name, 2 * single) if double else single
    return Cost(call, elements)


class Choice:
    """Decides for one view.

    Args:
        view: a train or eval view.
        forward: its program.
        gradient: makes the program of its gradients; ``None`` where there is none.
    """

    def __init__(self, view: Graph, forward: TapeProgram, gradient: Callable[[], TapeProgram | None]) -> None:
        self._view = view
        self._forward = forward
        self._gradient = gradient
        self._made: dict[tuple[Call, int], bool] = {}
        self._costs: dict[Call, tuple[Cost, Cost] | None] = {}

    def prefers_tape(self, call: Call, threads: int) -> bool:
        """Whether the tape is expected to be faster than torch with so many threads."""
        key = (call, threads)
        if key not in self._made:
            if len(self._made) >= _KEPT:
                self._made.clear()
            times = self.expected(call, threads)
            self._made[key] = times is not None and times[0] < MARGIN * times[1]
        return self._made[key]

    def expected(self, call: Call, threads: int) -> tuple[float, float] | None:
        """Microseconds of the tape and of torch; ``None`` where the tape has no gradients."""
        key = call._replace(sizes=())
        if key not in self._costs:
            self._costs[key] = self._both_costs(key)
        costs = self._costs[key]
        return costs and (costs[0].microseconds(call.sizes, 1), costs[1].microseconds(call.sizes, threads))

    def _both_costs(self, call: Call) -> tuple[Cost, Cost] | None:
        gradient = self._gradient() if call.backward else None
        if call.backward and gradient is None:
            return None
        programs = [self._forward, *([] if gradient is None else [gradient])]
        in_torch = torch_cost(self._view, call.double, call.backward)
        return tape_cost(programs, call.double, call.dense), in_torch


def chosen_layer(view: Graph, fallback: Program) -> Program:
    """What runs a plain view on the CPU: the tape where it is expected to be faster, else the fallback."""
    layer = tape_layer(view, fallback)
    if isinstance(layer, TapeLayer):
        choice = Choice(view, layer.program, layer.gradient_program)
        layer.rule = lambda call: choice.prefers_tape(call, torch.get_num_threads())
    return layer
