"""The gates by name: built in, and from entry points of the group ``primordium.gates``.

A gate is registered as a class whose fields are its thresholds; a configuration gives their values.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from primordium.errors import ConfigError, PluginError
from primordium.evaluators.gate import ScreeningGate, TrainingGate
from primordium.plugins.registry import Registry

Gate: TypeAlias = ScreeningGate | TrainingGate
GateFactory: TypeAlias = Callable[..., Gate]


def _factory(entry: object) -> GateFactory:
    if not callable(entry) or not hasattr(entry, "check") or not hasattr(entry, "name"):
        raise PluginError(f"a gate must be a class with 'name' and 'check'; {entry!r} is not")
    return entry


GATES: Registry[GateFactory] = Registry(
    "primordium.gates",
    contract=_factory,
    builtin={
        "static": "primordium.evaluators.screening_gates:Static",
        "numeric": "primordium.evaluators.screening_gates:Numeric",
        "gradient": "primordium.evaluators.screening_gates:Gradient",
        "ten_step": "primordium.evaluators.training_gates:TenStep",
        "quality": "primordium.evaluators.training_gates:Quality",
    },
)


def make_gates(options: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[ScreeningGate, ...], tuple[TrainingGate, ...]]:
    """The screening gates in the order given, and the training gates.

    Raises:
        PluginError: there is no gate of that name.
        ConfigError: a gate takes no such threshold, or ``static`` does not come first.
    """
    screening: list[ScreeningGate] = []
    training: list[TrainingGate] = []
    for name, thresholds in options.items():
        try:
            gate = GATES.get(name)(**thresholds)
        except TypeError as error:
            raise ConfigError(f"gates.{name}: {error}") from error
        if isinstance(gate, TrainingGate):
            training.append(gate)
        else:
            screening.append(gate)
    if not screening or screening[0].name != "static":
        raise ConfigError(f"gates: 'static' must come first; the order is {', '.join(options) or 'empty'}")
    return tuple(screening), tuple(training)
