"""JSON: bit-exact round trips, and that a bad file is refused with its place and runs nothing."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_graphs import random_graph

from primordium.errors import GraphError
from primordium.primitives.identity import key
from primordium.primitives.serial import from_dict, from_json, to_dict, to_json
from primordium.primitives.text import parse

CHUNKS = 4
GRAPHS = 100


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_graphs_read_back_bit_for_bit(chunk: int) -> None:
    """The genome, dead nodes included, and the text itself are what they were."""
    dead = 0
    for seed in range(chunk * GRAPHS, (chunk + 1) * GRAPHS):
        graph = random_graph(seed)
        text = to_json(graph)
        again = from_json(text)
        assert again == graph
        assert to_json(again) == text
        assert key(again) == key(graph)
        dead += len(graph.nodes) > len(graph.live)
    assert dead > 0


def test_numbers_survive_exactly() -> None:
    """Initial values, attributes and constants of any size, as bytes too."""
    for value in (1 / 3, 5e-324, 1.7976931348623157e308, -2.5e-17):
        graph = parse(f"layer(v: C = {value!r}): x * v + {value!r} * std(x, over=batch, eps={abs(value)!r})")
        assert from_json(to_json(graph).encode()) == graph


def test_the_text_is_canonical() -> None:
    """Sorted keys, no spaces, the format and its version."""
    text = to_json(parse("layer: -x"))
    data = json.loads(text)
    assert text == json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert data["format"] == "primordium.graph"
    assert data["version"] == 1


def test_a_whole_number_for_a_real_attribute_is_the_same_graph() -> None:
    """`"eps": 0` written by another tool makes no other genome and no other key."""
    graph = parse("layer: std(x, over=batch, eps=0) + 2")
    data = to_dict(graph)
    for node in data["nodes"]:
        for name, value in node["attrs"].items():
            if isinstance(value, float):
                node["attrs"][name] = int(value)
    again = from_dict(json.loads(json.dumps(data)))
    assert again == graph
    assert to_json(again) == to_json(graph)


TEXT = "layer[affine](v: C = 1): x * running(mean(x, over=batch)) + v * 2"


def _broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data = copy.deepcopy(to_dict(parse(TEXT)))
    change(data)
    return data


def _node(data: dict[str, Any], op: str) -> dict[str, Any]:
    return next(node for node in data["nodes"] if node["op"] == op)


def _set(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """Put a value at ``key``, or at ``op.key`` of the first node of that primitive."""

    def change(data: dict[str, Any]) -> None:
        op, _, name = path.rpartition(".")
        (_node(data, op) if op else data)[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", "onnx"), "its 'format' must be 'primordium.graph'"),
        (_set("version", 2), "graph file of version 2; this Primordium reads version 1"),
        (_set("version", None), "graph file of version None"),
        (_set("domain", "layers"), "unknown domain 'layers'"),
        (_set("domain", 3), "'domain' in the graph file is 3; a str is needed"),
        (_set("groups", 0), "groups is 0"),
        (_set("groups", 2.5), "groups in the graph file is 2.5; a whole number is needed"),
        (_set("groups", True), "groups in the graph file is True"),
        (_set("affine", 1), "'affine' in the graph file is 1; a bool is needed"),
        (_set("nodes", {}), "'nodes' in the graph file is {}; a list is needed"),
        (_set("nodes", [3]), "node 0: 3 in the graph file must be an object"),
        (_set("outputs", ["y"]), "'outputs' in the graph file is ['y']; a dict is needed"),
        (_set("outputs", {"y": "x"}), "output 'y' in the graph file is 'x'; a whole number is needed"),
        (_set("outputs", {"y": 99}), "output 'y' refers to node 99"),
        (_set("outputs", {"y": -1}), "output 'y' refers to node -1"),
        (_set("outputs", {}), "needs the output 'y'"),
        (_set("outputs", {"y": 0, "z": 0}), "output 'z' is unknown in domain 'layer'"),
        (_set("params", [{"name": "v"}]), "graph file without 'axes'"),
        (_set("params", [7]), "7 in the graph file must be an object with 'name'"),
        (_set("params", []), "param 'v' is not declared; declared: none"),
        (_set("mul.op", "mull"), "(mull): unknown primitive 'mull'"),
        (_set("mul.op", 5), "'op' in the graph file is 5; a str is needed"),
        (_set("mul.args", [0]), "'mul' takes 2 arguments, 1 given"),
        (_set("mul.args", [0, 0, 0]), "'mul' takes 2 arguments, 3 given"),
        (_set("mul.args", "01"), "'args' in the graph file is '01'; a list is needed"),
        (_set("mul.args", [0, 1.0]), "in the graph file is 1.0; a whole number is needed"),
        (_set("mul.args", [0, True]), "in the graph file is True; a whole number is needed"),
        (_set("mul.args", [0, -1]), "argument -1 is not an earlier node"),
        (_set("mul.args", [0, 5]), "uses node 5, which comes after it; list nodes in order"),
        (_set("mul.args", [0, 4]), "the graph has a cycle: "),
        (_set("mul.attrs", []), "'attrs' in the graph file is []; a dict is needed"),
        (_set("mul.attrs", {"eps": 1.0}), "(mul): primitive 'mul' has no attribute 'eps'"),
        (_set("mean.attrs", {}), "(mean): without 'over'; a graph file gives every attribute"),
        (_set("mean.attrs", {"over": "weekday"}), "unknown index set 'weekday'"),
        (_set("mean.attrs", {"over": ["batch"]}), "attribute 'over' of 'mean' is ['batch']"),
        (_set("mean.attrs", {"over": {"B": 1}}), "attribute 'over' of 'mean' is {'B': 1}"),
        (_set("const.attrs", {"value": "2"}), "attribute 'value' of 'const' is '2'; a finite float"),
        (_set("const.attrs", {"value": None}), "attribute 'value' of 'const' is None"),
        (_set("const.attrs", {"value": True}), "attribute 'value' of 'const' is True"),
        (_set("const.attrs", {"value": 10**400}), "attribute 'value' of 'const' is 1000"),
        (_set("const.attrs", {}), "(const): without 'value'"),
        (_set("param.attrs", {"name": "w"}), "param 'w' is not declared; declared: v"),
        (_set("input.attrs", {"name": "z"}), "input 'z' is not declared; declared: x"),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[dict[str, Any]], object], message: str) -> None:
    """Each kind of damage has a message that names the place and what would be right."""
    with pytest.raises(GraphError) as caught:
        from_dict(_broken(change))
    assert message in str(caught.value)
    with pytest.raises(GraphError):
        from_json(json.dumps(_broken(change)))


@pytest.mark.parametrize("name", list(to_dict(parse("layer: x"))))
def test_every_key_is_needed(name: str) -> None:
    """A file that lacks one says which."""
    with pytest.raises(GraphError, match=name):
        from_dict(_broken(lambda data: data.pop(name)))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
@pytest.mark.parametrize("place", ["init", "value"])
def test_numbers_that_are_not_finite_are_refused(constant: str, place: str) -> None:
    """Neither JSON's own spellings nor numbers that overflow a float get in."""
    text = to_json(parse("layer(v: C = 1.25): x * v + 2.5"))
    old = {"init": '"init":1.25', "value": '"value":2.5'}[place]
    assert text.count(old) == 1
    with pytest.raises(GraphError, match="finite"):
        from_json(text.replace(old, f'"{place}":{constant}'))


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_spellings_that_json_does_not_have_are_refused_anywhere(constant: str) -> None:
    """Even in a place that nothing reads, the file is no JSON."""
    text = to_json(parse("layer: x")).replace('{"affine"', f'{{"note":{constant},"affine"')
    with pytest.raises(GraphError, match=f"the graph file holds {constant}, which is not finite"):
        from_json(text)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"layer: x"', "\x00", "{}", "[" * 100_000])
def test_other_files_are_refused(text: str) -> None:
    """What is no JSON, or no graph, is said to be none."""
    with pytest.raises(GraphError, match="not a graph file"):
        from_json(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    """A binary file is no graph file."""
    with pytest.raises(GraphError, match="not a graph file"):
        from_json(b"\xff\xfe\x00\x80")


@pytest.mark.parametrize("place", ["op", "name", "over", "domain"])
def test_code_in_a_file_is_refused_and_not_run(place: str, tmp_path: Path) -> None:
    """Words of a file name things; none of them is ever evaluated."""
    sentinel = tmp_path / "sentinel"
    code = f"open({str(sentinel)!r}, 'w')"

    def change(data: dict[str, Any]) -> None:
        if place == "domain":
            data["domain"] = code
        elif place == "op":
            _node(data, "mul")["op"] = code
        elif place == "name":
            _node(data, "param")["attrs"]["name"] = data["params"][0]["name"] = code
        else:
            _node(data, "mean")["attrs"]["over"] = code

    with pytest.raises(GraphError):
        from_dict(_broken(change))
    assert not sentinel.exists()
