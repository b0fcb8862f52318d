"""How convolutions and poolings are lowered: values kept by every pass, and what each does to the calls."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer

import symgrad as sg
from symgrad.index.definition import At, define, index_symbol
from symgrad.lower import LOWERING_PASSES
from symgrad.lower.arrange import NETWORK_PASSES, TRAINING_PASSES
from symgrad.lower.parts import parts_of, written_once

PASSES = (*NETWORK_PASSES, *TRAINING_PASSES, *sorted(LOWERING_PASSES))
ACTIVATIONS: dict[str, Any] = {
    "none": lambda x: x,
    "relu": sg.relu,
    "tanh": sg.tanh,
    "sigmoid": sg.sigmoid,
    "leaky": sg.leaky_relu,
    "residual": lambda x: x + sg.tanh(x),
}
POOLS: dict[str, tuple[Any, Any]] = {  # pooling, and the size that it makes of one
    "none": (lambda x: x, lambda n: n),
    "max": (lambda x: sg.max_pool(x, 2), lambda n: n // 2),
    "mean": (lambda x: sg.avg_pool(x, 2), lambda n: n // 2),
    "overlapping": (lambda x: sg.max_pool(x, 3, stride=2), lambda n: (n - 1) // 2),
    "padded": (lambda x: sg.max_pool(x, 2, padding=1), lambda n: n // 2 + 1),
    "padded mean": (lambda x: sg.avg_pool(x, 3, stride=1, padding=1), lambda n: n),
}


@st.composite
def convolutional(draw: st.DrawFn) -> Any:
    """Random convolutional networks of up to three layers on (N, c, s, s)."""
    channels, side = draw(st.integers(1, 3)), draw(st.integers(7, 12))
    h = sg.input("x", ("N", channels, side, side))
    for layer in range(draw(st.integers(1, 3))):
        window, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
        gap = draw(st.integers(1, 2))
        size = (side + 2 * padding - gap * (window - 1) - 1) // stride + 1
        if size < 3:
            break
        groups = draw(st.sampled_from([1, 2])) if channels % 2 == 0 else 1
        filters = 2 * draw(st.integers(1, 2))
        kernel = sg.parameter(f"K{layer}", (filters, channels // groups, window, window))
        h = sg.conv2d(h, kernel, stride=stride, padding=padding, dilation=gap, groups=groups)
        if draw(st.booleans()):
            h = h + sg.parameter(f"c{layer}", (filters, 1, 1))
        h = ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))](h)
        pool, pooled = POOLS[draw(st.sampled_from(sorted(POOLS)))]
        h, channels, side = pool(h), filters, pooled(size)
    if draw(st.booleans()):
        h = sg.mean(h, axis=(2, 3)) @ sg.parameter("W", (channels, 3))
    else:
        h = h.reshape("N", channels * side * side) @ sg.parameter("W", (channels * side * side, 3))
    return sg.graph(sg.cross_entropy(h, sg.input("t", ("N",), dtype="int64"), name="loss"))


def convnet(activation: str = "relu") -> Any:
    """A convolution, bias, activation and pooling of (N, 2, 8, 8), twice; then a dense layer."""
    h = sg.input("x", ("N", 2, 8, 8))
    for layer, (inputs, filters) in enumerate(((2, 4), (4, 3)), 1):
        kernel, bias = (sg.parameter(f"K{layer}", (filters, inputs, 3, 3)), sg.parameter(f"c{layer}", (filters, 1, 1)))
        h = sg.max_pool(ACTIVATIONS[activation](sg.conv2d(h, kernel, padding=1) + bias), 2)
    logits = h.reshape("N", 12) @ sg.parameter("W", (12, 3))
    return sg.graph(sg.cross_entropy(logits, sg.input("t", ("N",), dtype="int64"), name="loss"))


def source(graph: Any, *without: str) -> str:
    return sg.emit(sg.derive(graph), dtype="float64", without=without).source


def assert_same(graph: Any, without: tuple[str, ...], ties: bool = False) -> None:
    """Loss and gradients of the fast code equal those of the readable code."""
    derivation = sg.derive(graph)
    fast = sg.emit(derivation, dtype="float64", without=without).load()
    plain = sg.emit(derivation, dtype="float64", style="readable").load()
    random = np.random.default_rng(0)
    params = fast.init_params(seed=0)
    for count in (3, 4, 3):
        x = random.normal(size=(count, *map(int, graph.nodes["x"]["shape"][1:])))
        batch = {"x": np.round(x) if ties else x, "t": random.integers(0, 3, count)}
        loss, grads = repeated.loss_and_grads(fast, params, **batch)
        expected, gradients = plain.loss_and_grads(params, **batch)
        np.testing.assert_allclose(loss, expected, rtol=1e-12)
        for name, gradient in gradients.items():
            np.testing.assert_allclose(grads[name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=12, deadline=None)
@given(graph=convolutional(), ties=st.booleans(), without=st.sets(st.sampled_from(PASSES), max_size=3))
def test_values_are_kept(graph: Any, ties: bool, without: set[str]) -> None:
    assert_same(graph, tuple(without), ties)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_left_out_changes_calls_and_not_values(name: str) -> None:
    graph = convnet()
    assert_same(graph, (name,), ties=True)
    if name not in ("small_products", "share_invariant", "drop_copies", "overlap_rows"):  # nothing for them here
        assert source(graph, name) != source(graph)


def rows_network(stride: int = 1, filters: int = 14) -> Any:
    """Two convolutions with many filters, so that nothing is merged with the pooling."""
    h = sg.input("x", ("N", 2, 10, 8))
    for layer, (inputs, outputs) in enumerate(((2, 5), (5, filters)), 1):
        h = sg.tanh(sg.conv2d(h, sg.parameter(f"K{layer}", (outputs, inputs, 3, 3)), padding=1, stride=stride))
    size = filters * (80 if stride == 1 else 6)
    logits = h.reshape("N", size) @ sg.parameter("W", (size, 3))
    return sg.graph(sg.cross_entropy(logits, sg.input("t", ("N",), dtype="int64"), name="loss"))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("without", [(), ("overlap_rows",), ("window_rows",), ("copy_windows",), ("move_batch_last",)])
def test_rows_of_windows_keep_values(stride: int, without: tuple[str, ...]) -> None:
    assert_same(rows_network(stride), without)


def test_a_row_of_windows_is_a_view_of_the_rows() -> None:
    """Windows along the last axis are copied, those along the rows are not; the adjoint has a part for each column."""
    text, full = source(rows_network()), source(rows_network(), "overlap_rows")
    copies, columns = (set(re.findall(rf"copyto\((\w*{name}\w*),", text)) for name in ("window_rows", "columns"))
    assert sorted(copies) == ["tanh1_padded_window_rows", "x_padded_window_rows"]  # the adjoint is made in such rows
    assert columns == {"z1_columns", "z2_columns", "d_tanh1_parts_columns"}  # kernels, their axes in another order
    added = [len(re.findall(r"^ +add\(\w+_cut\w*, \w+_parts_cut", t, re.M)) for t in (text, full)]
    assert added[0] < 3 < 6 < added[1]


def test_a_large_gradient_of_small_products_has_its_right_operand_turned() -> None:
    """BLAS reads a transposed right operand as it lies only where the result is small."""
    small, large = source(rows_network()), source(rows_network(filters=40))
    assert "copyto(d_K2_turned" in large
    assert "copyto(d_K2_turned" not in small
    assert_same(rows_network(filters=40), ())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_kernel_as_large_as_the_image_is_emitted(stride: int) -> None:
    """The rows of its windows lie the batch apart: no step of a view, which is a number."""
    h = sg.leaky_relu(sg.conv2d(sg.input("x", ("N", 2, 2, 2)), sg.parameter("K", (3, 2, 2, 2)), stride=stride))
    logits = h.reshape("N", 3) - sg.parameter("b", (3,))
    assert_same(sg.graph(sg.cross_entropy(logits, sg.input("t", ("N",), dtype="int64"), name="loss")), ())


@pytest.mark.parametrize("count", [127, 128])
def test_ties_are_counted_in_bytes_where_these_hold_the_number(count: int) -> None:
    """All elements of the first two rows are equal."""
    h = sg.max(sg.input("x", ("N", count, 4)) * sg.parameter("k", ()), axis=1)
    graph = sg.graph(sg.sum(sg.square(h), name="loss"))
    programs = [sg.emit(sg.derive(graph), dtype="float64", style=style) for style in ("fast", "readable")]
    assert ("np.int8" in programs[0].source.split("# <network>")[1]) == (count == 127)
    x = np.ones((3, count, 4))
    x[2] = np.random.default_rng(0).normal(size=(count, 4))
    values = [p.load().loss_and_grads({"k": np.array(0.5)}, x=x) for p in programs]
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-12)
    np.testing.assert_allclose(values[0][1]["k"], values[1][1]["k"], rtol=1e-12)


def test_windows_are_copied_once_for_forward_and_backward() -> None:
    text = source(convnet())
    columns = re.findall(r"copyto\((\w*columns\w*),", text)
    assert len(columns) == len(set(columns)) == 2


def test_borders_are_written_once() -> None:
    text = source(convnet())
    assert not re.search(r"copyto\(\w*padded\w*, zero\)", text)
    assert re.search(r"copyto\(\w*padded\w*, zero\)", source(convnet(), "constant_borders"))


def test_the_batch_is_the_last_axis_of_what_windows_slide_over() -> None:
    assert re.search(r"x_padded = \w+\(\(2, 10, 10, n\)", source(convnet()), re.IGNORECASE)
    assert not re.search(r"x_padded = \w+\(\(2, 10, 10, n\)", source(convnet(), "move_batch_last"), re.IGNORECASE)


def test_bias_and_activation_wait_for_the_pooling() -> None:
    derivation = sg.derive(convnet())
    conv = r"max_pool1\w*\[n,i,j,k\] = max.* conv2d"
    assert re.search(conv, sg.emit(derivation).source)
    assert not re.search(conv, sg.emit(derivation, without="pool_first").source)
    assert "_first" not in sg.emit(sg.derive(convnet("residual"))).source.replace("first_", "")


@pytest.mark.parametrize(
    ("body", "moves"),
    [
        ("X[i,j] + j", False),
        ("tanh(X[i,j] + j)", False),
        ("where(X[i,j] + j > 0, X[i,j] + j, 0)", False),
        ("X[i,j] + B[j]", False),
        ("X[i,j] + i", True),
    ],
)
def test_what_depends_on_the_pooled_index_does_not_wait(body: str, moves: bool) -> None:
    x, b = sg.input("x", ("N", 4)) @ sg.parameter("W", (4, 5)), sg.parameter("b", (5,))
    operands: dict[str, Any] = {"X": x, "B": b} if "B" in body else {"X": x}
    row = sg.max(sg.define(f"Y[i,j] = {body}", **operands), axis=1)
    derivation = sg.derive(sg.graph(sg.mean(row**2)))
    programs = {style: sg.emit(derivation, style=style, dtype="float64") for style in ("fast", "readable")}
    assert ("max1_first" in programs["fast"].source) == moves
    modules = {style: program.load() for style, program in programs.items()}
    params, batch = modules["fast"].init_params(0), {"x": np.random.default_rng(0).normal(size=(3, 4))}
    loss, grads = repeated.loss_and_grads(modules["fast"], params, **batch)
    expected, gradients = modules["readable"].loss_and_grads(params, **batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-12, atol=1e-14)


def test_no_scatter_is_left_as_a_loop() -> None:
    assert "in ndindex(" not in source(convnet())
    assert "in ndindex(" in source(convnet(), "write_parts", "merge_taps")


def _scatter(stride: int, window: int, count: int, size: int, border: int = 0) -> Any:
    h, p = index_symbol("h"), index_symbol("p")
    loops = [(h, Integer(count)), (p, Integer(window))]
    return define(loops, [Integer(size)], [stride * h + p - border], At(0, [h, p]))


@pytest.mark.parametrize(
    ("arguments", "fill", "constant", "added"),
    [
        ((2, 2, 4, 8), False, False, 0),  # tiles
        ((2, 2, 4, 9), False, True, 0),  # one element is never written
        ((1, 3, 6, 6, 1), False, False, 2),  # the middle part covers all
        ((1, 3, 6, 8), True, False, 3),  # no part covers all
        ((3, 2, 3, 9), False, True, 0),  # gaps
    ],
)
def test_parts_are_added_only_where_they_overlap(
    arguments: tuple[int, ...], fill: bool, constant: bool, added: int
) -> None:
    definition = _scatter(*arguments)
    found = parts_of(definition)
    assert found is not None
    writing = written_once(definition, found[1])
    assert (writing.fill, writing.constant, sum(part.adds for part in writing.parts)) == (fill, constant, added)
    total, expected = np.zeros(arguments[3]), np.zeros(arguments[3])
    stride, window, count, size = arguments[:4]
    for h, p in np.ndindex(count, window):
        place = stride * h + p - (arguments[4] if len(arguments) > 4 else 0)
        if 0 <= place < size:
            expected[place] += 1
    for part in writing.parts:
        (span,) = part.spans
        view = total[span[0] : span[0] + span[2] * (span[1] - 1) + 1 : span[2]] if span else total
        view[...] = view * part.adds + 1
    np.testing.assert_array_equal(total, expected)
