"""Formula text: what it means, what is refused and why, and that definitions print as their text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer

from symgrad.errors import FormulaError, ShapeError, SymgradError
from symgrad.index.definition import At, Definition, dimension
from symgrad.index.parser import (
    Operand,
    Part,
    broadcast_shapes,
    operand_names,
    parse,
    parse_dimension,
    target_names,
)
from symgrad.index.text import definition_text

N = dimension("N")


def tensor(name: str, *shape: Any, integral: bool = False) -> Operand:
    return Operand(name, tuple(parse_dimension(n) for n in shape), integral)


X = tensor("X", "N", 4)
T = tensor("T", "N", integral=True)
S = tensor("s")


def last(text: str, *operands: Operand) -> Definition:
    return parse(text, operands or (X,))[-1].definition


# what text means


def test_an_elementwise_formula() -> None:
    d = last("Y[i, j] = 2*X[i, j] + 1")
    i, j = (loop for loop, _ in d.loops)
    assert d.shape == (N, 4) and d.elementwise and d.body == 2 * At(0, (i, j)) + 1


def test_a_contraction() -> None:
    d = last("Z[i, j] = sum(k, X[i, k]*W[k, j])", X, tensor("W", 4, 3))
    assert d.shape == (N, 3) and d.reduction == "sum" and [n for _, n in d.reduced] == [4]


def test_decimals_are_exact() -> None:
    assert last("Y = 0.1*s", S).body == sp.Rational(1, 10) * At(0, ())


def test_the_extent_of_a_window_follows() -> None:
    assert last("Y[n, i] = max((p, 2), X[n, 2*i + p])").shape == (N, 2)
    assert last("Y[i] = sum((p, 3), V[i + p])", tensor("V", "N")).shape == (N - 2,)
    assert last("Y[i] = sum(p, V[2*i + p]*F[p])", tensor("V", 9), tensor("F", 3)).shape == (4,)


def test_len_is_the_extent_of_an_index() -> None:
    assert last("Y[i] = sum(k, X[i, k])/len(k)").body.args[0] == sp.Rational(1, 4)
    assert last("Y[j] = sum(i, X[i, j])/len(i)").body.has(1 / N)


def test_leading_axes() -> None:
    d = last("Y[..., j] = A[..., j]*B[...]", tensor("A", 5, "N", 4), tensor("B", 1))
    assert d.shape == (5, N, 4)
    assert {at.index[-1] for at in d.accesses} == {d.loops[2][0], 0}


def test_a_gather_and_a_scatter() -> None:
    d = last("Y[n, d] = E[T[n], d]", tensor("E", 10, 3), T)
    assert d.shape == (N, 3) and isinstance(d.accesses[0].index[0], At)
    d = last("Y[T[n]:10] = sum(n, V[n])", T, tensor("V", "N"))
    assert d.shape == (10,) and not d.gathers


def test_a_view() -> None:
    d = last("Y[n, i, j] = X.reshape(N, 2, 2)[n, i, j]")
    assert d.shape == (N, 2, 2) and d.accesses[0].view == (N, 2, 2)


def test_a_reduction_inside_an_expression_is_a_part() -> None:
    parts = parse("Y[i, j] = exp(X[i, j])/sum(k, exp(X[i, k]))", (X,))
    assert [part.target for part in parts] == ["Y_sum", "Y"]
    assert parts[-1].operands == ("X", "Y_sum")


def test_a_part_does_not_take_the_name_of_an_operand() -> None:
    parts = parse("Y[i] = sum(k, X[i, k]) + Y_sum[i]", (X, tensor("Y_sum", "N")))
    assert len({part.target for part in parts} | {"Y_sum"}) == 3
    assert set(parts[-1].operands) == {"Y_sum", parts[0].target}
    parts = parse("Y = max(i, 2*Y_max_each[i])", (tensor("Y_max_each", "N"),))
    assert all(len(part.operands) == 1 for part in parts) and parts[0].operands == ("Y_max_each",)


def test_several_equations() -> None:
    text = "M[i] = max(k, X[i, k]); Y[i, k] = X[i, k] - M[i]"
    assert target_names(text) == ("M", "Y") and operand_names(text) == ("X",)
    assert [part.target for part in parse(text, (X,))] == ["M", "Y"]


def test_comparisons_are_boolean() -> None:
    assert parse("Y[i, j] = X[i, j] > 0", (X,))[-1].boolean
    assert not parse("Y[i, j] = where(X[i, j] > 0, 1, 0)", (X,))[-1].boolean


def test_the_value_of_a_scalar_constant_stands_in_the_definition() -> None:
    (part,) = parse("Y[...] = A[...]/B[...]", (tensor("A", "N"), Operand("B", (), value=Integer(4))))
    assert part.operands == ("A",) and part.definition.body.args[0] == sp.Rational(1, 4)


def test_sums_may_be_long() -> None:
    d = last("Y[i] = " + " + ".join(f"X[i, {k % 4}]*{k}" for k in range(500)))
    assert len(d.accesses) == 4
    assert last("Y[i] = " + " - ".join(["X[i, 0]"] * 9)).body == -7 * At(0, (d.loops[0][0], Integer(0)))


# what is refused


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Y[i, j] = 9**9**9*X[i, j]", "the exponent 387420489 is too large"),
        ("Y[i, j] = 9**9999*X[i, j]", "the power is too large to be written out"),
        ("Y[i, j] = X[i, j]**1e9", "the exponent 1000000000 is too large"),
        ("Y[i, j] = X[i, j]**inf", "the exponent oo is too large"),
        ("Y[i, j] = (3*X[i, j])**1000", "the number is not finite in double precision"),
        ("Y[i, j] = ((2*X[i, j])**900)**900", "the number is not finite in double precision"),
        ("Y[i, j] = " + "(" * 150 + "X[i, j]" + ")" * 150 + "**2" * 80, "the formula is nested too deeply"),
        ("Y[i, j] = " + "-" * 500 + "X[i, j]", "the formula is nested too deeply"),
        ("Y[i, j] = " + "(" * 5000 + "X[i, j]" + ")" * 5000, "the formula is"),
        ("Y[i, j] = " + "abs(" * 90 + "X[i, j]" + ")" * 90, "the formula is nested too deeply"),
        ("Y[i, j] = " + "X[i, j]**" * 90 + "1", "the formula is nested too deeply"),
        ("Y[i, j] = X[i, j]" + " + X[i, j]" * 9000, "the formula is"),
        ("Y[i, j] = where(" + "X[i, j] > 0 and " * 5000 + "1, 2, 3)", "the formula is too large"),
        ("Y[i, j] = X[i, j]" + " " * 100_000, "the formula has 100017 characters"),
        ("Y[i, j] = (lambda: 1)()*X[i, j]", "only the functions of the formula language can be called"),
        ("Y[i, j] = lambda: X[i, j]", "Lambda has no place in a formula"),
        ("Y[i, j] = X.__class__", "Attribute has no place in a formula"),
        ("Y[i, j] = X[i, j].real", "Attribute has no place in a formula"),
        ("Y[i, j] = ().__class__.__bases__[0].__subclasses__()", "only the functions"),
        ("Y[i, j] = f'{X}'", "JoinedStr has no place in a formula"),
        ("Y[i, j] = (X := 1)", "NamedExpr has no place in a formula"),
        ("Y[i, j] = 'abc'", "'abc' is not a number"),
        ("Y[i, j] = '\\-'", "is not a number"),
        ("Y[i, j] = 1or 2", "nothing tells how many values"),
        ("Y[i, j] = b'abc'", "b'abc' is not a number"),
        ("Y[i, j] = True*X[i, j]", "True is not a number"),
        ("Y[i, j] = None", "None is not a number"),
        ("Y[i, j] = 1j*X[i, j]", "1j is not a number"),
        ("Y[i, j] = " + "9" * 50, "the number has more than 40 digits"),
        ("Y[i, j] = " + "9" * 5000, "the formula is malformed"),
        ("Y[i, j] = 1e400*X[i, j]", "the number is not finite in double precision"),
        ("Y[i, j] = foo(X[i, j])", "'foo' is no function of the formula language"),
        ("Y[i, j] = eval(X[i, j])", "'eval' is no function of the formula language"),
        ("Y[i, j] = __import__('os')", "'__import__' is no function of the formula language"),
        ("Y[i, j] = [X[i, j]]", "List has no place in a formula"),
        ("Y[i, j] = {}", "Dict has no place in a formula"),
        ("Y[i, j] = [X[i, j] for i in X]", "ListComp has no place in a formula"),
        ("Y[i, j] = X[i, j] if 1 else 0", "IfExp has no place in a formula"),
        ("Y[i, j] = X[i, j] in s", "has no place in a formula"),
        ("Y[i, j] = X[i, j] % 2", "Mod has no place in a formula"),
        ("Y[i, j] = X[i, j] @ 2", "MatMult has no place in a formula"),
        ("Y[i, j] = X[i, j] << 2", "LShift has no place in a formula"),
        ("Y[i, j] = ~X[i, j]", "~ has no place in a formula"),
        ("Y[i, j] = await X[i, j]", "Await has no place in a formula"),
        ("", "the formula is empty"),
        (" \n ; ", "the formula is malformed"),
        ("Y[i, j]", "an equation has the form Y[i, j] = expression"),
        ("import os", "an equation has the form Y[i, j] = expression"),
        ("Y[i, j] = X[i, j]; import os", "an equation has the form Y[i, j] = expression"),
        ("Y[i, j] += X[i, j]", "an equation has the form Y[i, j] = expression"),
        ("Y[i, j]: int = X[i, j]", "an equation has the form Y[i, j] = expression"),
        ("Y[i, j] = Z = X[i, j]", "an equation has the form Y[i, j] = expression"),
        ("def f(): pass", "an equation has the form Y[i, j] = expression"),
        ("Y[i, j] = X[i, j]\x00", "the formula is malformed"),
        ("Y[i, j] = = X[i, j]", "the formula is malformed"),
        ("Y.a = X[0, 0]", "the left side has the form Y[i, j]"),
        ("(Y, Z) = X[0, 0]", "the left side has the form Y[i, j]"),
        ("*Y[i, j] = X[i, j]", "the left side has the form Y[i, j]"),
        ("__init__[i] = X[i, 0]", "'__init__': the name is not an ASCII identifier"),
        ("h\u00e9[i] = X[i, 0]", "the formula has the character '\\xe9'"),
        ("Y[i] = \uff38[i, 0]", "the formula has the character '\\uff38'"),
        ("Y[i] = X[i, 0] \u2212 1", "the formula has the character '\\u2212'"),
        ("Y[i, i] = X[i, i]", "the index 'i' stands twice on the left"),
        ("Y[i:3:2, j] = X[i, j]", "an axis on the left is an index or index:extent"),
        ("Y[:, j] = X[0, j]", "an axis on the left is an index or index:extent"),
        ("Y[2*i] = sum(i, X[i, 0])", "an axis that is no plain index needs its extent"),
        ("Y[i:-3] = s", "there cannot be -3 of an index"),
        ("Y[i:" + "9" * 30 + "] = s", "of an index"),
        ("Y[i:M] = s", "'M' is no dimension"),
        ("Y[i] = sum((k, -3), X[i, k])", "there cannot be -3 of an index"),
        ("Y[i] = sum((k, X), X[i, k])", "'X' is no dimension"),
        ("Y[i:inf] = s", "'inf' is no dimension"),
        ("Y[i] = sum(k)", "sum takes index names, then an expression"),
        ("Y[i] = sum()", "sum takes index names, then an expression"),
        ("Y[i] = sum(1, X[i, 1])", "a reduction names its index"),
        ("Y = sum(i, i, X[i, i])", "the index 'i' is bound twice"),
        ("Y = sum(X, X[X, 0])", "'X' names an operand and an index"),
        ("Y[X] = X[X, 0]", "'X' names an operand and an index"),
        ("Y[i, j] = exp()", "exp takes 1 argument, got 0"),
        ("Y[i, j] = maximum(X[i, j])", "maximum takes 2 arguments, got 1"),
        ("Y[i, j] = exp(x=1)", "only the functions of the formula language can be called"),
        ("Y[i, j] = exp(*X)", "Starred has no place in a formula"),
        ("Y[i, j] = len(X)*X[i, j]", "len takes the name of an index"),
        ("Y[i, j] = X", "'X' has 2 axes and stands here without indices"),
        ("Y[i, j] = Z[i, j]", "'Z' is not an operand"),
        ("Y[i, j] = M*X[i, j]", "'M' is neither an index nor an operand"),
        ("Y[i, j] = X[i*j, j]", "an index is affine in the indices"),
        ("Y[i, j] = X[i**2, j]", "an index is affine in the indices"),
        ("Y[i, j] = X[i/2, j]", "an index is affine in the indices"),
        ("Y[i, j] = X[1.5, j] + X[i, j]", "an index is affine in the indices"),
        ("Y[i, j] = X[X[i, j], j]", "an index must be an integer tensor"),
        ("Y[i, j] = X[i + 10**30, j]", "the index does not fit int64"),
        ("Y[i, j] = X[sum(k, X[i, k]), j]", "an index is affine in the indices"),
        ("Y[i] = X.reshape(4, N, k=3)[0, i]", "reshape takes sizes only"),
        ("Y[i] = X.reshape(3)[i]", "cannot be reshaped to (3,)"),
        ("Y[i] = X.foo(4)[i]", "only operands have elements"),
        ("Y[i] = X[..., i]", '"..." stands for 1 axes of X that the left side does not have'),
        ("Y[i, j] = X[i, j]//2", "// divides sizes by positive sizes only"),
        ("Y[i, j] = X[i, j]/0", "this is not a finite number"),
        ("Y[i, j] = X[i, j] + inf - inf", "this is not a finite number"),
        ("Y[i, j] = tan(pi/2)*X[i, j]", "this is not a finite number"),
        ("Y[i] = sum(k, X[i, k])/(len(k) - 4)", "this is not a finite number"),
        ("Y[i, j] = 2**(len(j)**9)*X[i, j]", "the exponent 262144 is too large"),
        ("Y[i, j] = where(exp(exp(exp(len(j)**3))) > 3, X[i, j], 0)", "not finite in double precision"),
        ("Y[i, j] = sqrt(-1)*X[i, j]", "this is not a real number"),
        ("Y[i, j] = sqrt(-X[i, j]**2)", "this is not a real number"),
        ("Y[i, j] = log(-1)*X[i, j]", "this is not a real number"),
        ("Y[i, j] = (-8)**(1/3)*X[i, j]", "a negative number has whole powers only"),
        ("Y[i, j] = (-1)**X[i, j]", "a negative number has whole powers only"),
        ("Y[i, j] = exp(exp(exp(100)))*X[i, j]", "the number is not finite in double precision"),
        (
            "Y[i, j] = where(exp(exp(exp(100))) > 3, X[i, j], 0)",
            "the number is not finite in double precision",
        ),
        ("Y[i, j] = maximum(exp(exp(9999)), 3)*X[i, j]", "the number is not finite in double precision"),
        ("Y[i, j] = (X[i, j] > 0)*2", "a comparison is true or false and no number here"),
        ("Y[i, j] = exp(X[i, j] > 0)", "a comparison is true or false and no number here"),
        ("Y[i, j] = (X[i, j] > 0) == (X[i, j] < 1)", "a comparison is true or false and no number here"),
        ("Y[i] = sum(j, X[i, j] > 0)", "a comparison is true or false and no number here"),
        ("Y[i, j] = where(where(X[i, j] > 0, 1, 0) > 0, 1, 2)", "where(...) has no place in a condition"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_refusals(text: str, why: str) -> None:
    with pytest.raises(SymgradError) as caught:
        parse(text, (X, S))
    assert type(caught.value) in (FormulaError, ShapeError) and why in str(caught.value), str(caught.value)[:500]
    assert len(str(caught.value)) < 1500


def test_the_place_of_a_fault_is_shown() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("M[i] = X[i, 0]\nY[i, j] = X[i, j] + tnh(M[i])", (X,))
    assert caught.value.details == ("Y[i, j] = X[i, j] + tnh(M[i])", " " * 20 + "^")
    assert caught.value.hint == "did you mean 'tanh'?"


@pytest.mark.parametrize(
    ("text", "operands", "texts"),
    [
        ("Y[i, j] = X[i]", (X,), ["X has shape (N, 4) and is read with 1 indices"]),
        ("Y[i, j] = X[i, j, 0]", (X,), ["read with 3 indices"]),
        (
            "Z[i, j] = sum(k, X[i, k]*W[k, j])",
            (X, tensor("W", 5, 3)),
            [
                "index k differs between operands",
                "X has shape (N, 4), k = 4 on axis 1",
                "W has shape (5, 3), k = 5 on axis 0",
            ],
        ),
        (
            "Y[i, j] = X[0, j]",
            (X,),
            ["nothing tells how many values the index 'i' takes", "write Y[i:5] on the left"],
        ),
        ("Y[i] = X[-i, 0]", (X,), ["nothing tells how many values the index 'i' takes"]),
        (
            "Y[...] = A[...] + B[...]",
            (tensor("A", 3), tensor("B", 4)),
            ["do not broadcast: 3 against 4 on axis -1"],
        ),
        ("Y[..., i, j] = A[..., i, j]", (tensor("A", 3),), ["A has shape (3,); at least 2 axes are needed"]),
    ],
)
def test_shapes_that_do_not_fit(text: str, operands: tuple[Operand, ...], texts: list[str]) -> None:
    with pytest.raises(ShapeError) as caught:
        parse(text, operands)
    assert all(part in str(caught.value) for part in texts), str(caught.value)


def test_a_bare_name_of_an_operand_and_a_dimension_is_ambiguous() -> None:
    with pytest.raises(FormulaError, match="'s' names an operand and a dimension"):
        parse("Y[i] = V[i]*s", (tensor("V", "s"), S))
    body = last("Y[i] = V[i]*s[()]", tensor("V", "s"), S).body
    assert body.atoms(At) and len(body.args) == 2
    assert last("Y[i] = V[i]*V", tensor("V", "V")).body.has(dimension("V"))


@pytest.mark.parametrize(
    "text", ["", "1.5", "N**9", "N/2", "f(N)", "N;M", "N = 3", "-", "x.y", "[N]", "'N'", "N//0", "N//-1"]
)
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        parse_dimension(text)


def test_sizes() -> None:
    assert parse_dimension("2*N + 1") == 2 * N + 1
    assert parse_dimension(7) == 7
    assert parse_dimension("N//2") == sp.floor(N / 2)


def test_broadcasting() -> None:
    assert broadcast_shapes([(N, Integer(1)), (Integer(4),), ()]) == (N, 4)
    with pytest.raises(ShapeError, match="sizes on an axis must be equal, or 1"):
        broadcast_shapes([(N,), (Integer(4),)])


# printing and parsing again

OPERANDS = (
    tensor("A", "N", 4),
    tensor("B", 4, "N"),
    tensor("C", 4),
    tensor("D"),
    tensor("F", 9, 4),
    tensor("I", "N", integral=True),
)
ELEMENTS = st.sampled_from(
    ["A[i, j]", "B[j, i]", "C[j]", "D", "F[I[i], j]", "F[j + 2, j]", "B[3 - j, i]", "A.reshape(4, N)[j, i]"]
)
NUMBERS = st.sampled_from(["1", "2", "0.5", "1/3", "0.1", "7", "pi", "i", "len(j)", "N"])
UNARY = st.sampled_from(
    [
        "exp",
        "tanh",
        "sigmoid",
        "softplus",
        "abs",
        "sqrt",
        "log1p",
        "expm1",
        "erf",
        "erfc",
        "sign",
        "heaviside",
        "-",
        "log",
    ]
)
BINARY = st.sampled_from(["+", "-", "*", "/", "maximum", "minimum"])
COMPARISON = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    plain = st.one_of(ELEMENTS, NUMBERS)
    return st.one_of(
        st.tuples(UNARY, inner).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(BINARY, inner, inner).map(
            lambda t: f"{t[0]}({t[1]}, {t[2]})" if t[0].isalpha() else f"({t[1]}) {t[0]} ({t[2]})"
        ),
        st.tuples(inner, st.sampled_from(["2", "3", "-1", "0.5", "-2"])).map(lambda t: f"({t[0]})**({t[1]})"),
        st.tuples(plain, COMPARISON, plain, inner, inner).map(lambda t: f"where({t[0]} {t[1]} {t[2]}, {t[3]}, {t[4]})"),
        st.tuples(inner, plain).map(lambda t: f"where({t[1]} > 0 and not {t[1]} > 2 or {t[1]} < 1, {t[0]}, 1)"),
    )


BODIES = st.recursive(st.one_of(ELEMENTS, NUMBERS), _combined, max_leaves=6)
HEADS = st.sampled_from(
    [
        ("Y[i, j]", "{}"),
        ("Y[j, i]", "{}"),
        ("Y[i:N, j:4, k:3]", "{}"),
        ("Y[i:N, 0:2, j:4]", "{}"),
        ("Y[i:N]", "sum((j, 4), {})"),
        ("Y[i:N]", "prod((j, 4), {})"),
        ("Y", "max((i, N), (j, 4), {})"),
        ("Y[j:4]", "min((i, N), {})"),
        ("Y[I[i]:9, j:4]", "sum((i, N), {})"),
        ("Y[2*j + i:N + 8]", "sum((i, N), (j, 4), {})"),
        ("Y[i:N]", "2*sum((j, 4), {}) + 1"),
    ]
)


def printed(part: Part, operands: dict[str, Operand]) -> str:
    shapes = [operands[name].shape for name in part.operands]
    return definition_text(part.definition, part.target, part.operands, shapes, part.boolean)


def distributed(definition: Definition) -> Definition:
    """SymPy leaves some products as -(1 - pi), which it writes as pi - 1 when it builds them anew."""
    body = definition.body.replace(lambda e: isinstance(e, sp.Mul), lambda e: e.func(*e.args))
    return replace(definition, body=body)


@settings(max_examples=300, deadline=None)
@given(HEADS, BODIES)
def test_what_is_printed_is_what_was_parsed(head: tuple[str, str], body: str) -> None:
    left, right = head
    try:
        parts = parse(f"{left} = {right.format(body)}", OPERANDS)
    except SymgradError:
        return  # the random text has no real value, or nothing tells an extent
    known = {operand.name: operand for operand in OPERANDS}
    for part in parts:
        text = printed(part, known)
        (again,) = parse(text, tuple(known[name] for name in part.operands), frozenset({"N"}))
        definition = again.definition.renumbered({k: part.operands.index(n) for k, n in enumerate(again.operands)})
        assert distributed(definition) == distributed(part.definition), text
        assert again.boolean == part.boolean
        assert printed(Part(part.target, definition, part.operands, again.boolean), known) == text
        known[part.target] = Operand(part.target, part.definition.shape)


@pytest.mark.parametrize(
    "relation",
    ["X[i, j] > 0", "X[i, j] == 1", "not X[i, j] > 0", "X[i, j] > 0 and X[i, j] < 1", "0 < X[i, j] <= 2"],
)
def test_boolean_formulas_print(relation: str) -> None:
    (part,) = parse(f"Y[i, j] = {relation}", (X,))
    (again,) = parse(printed(part, {"X": X}), (X,))
    assert again.boolean and again.definition == part.definition


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="XYij[]()=+-*/., 0123456789:;<>\"'{}\\\n#@sum", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text, (X,))
    except SymgradError as error:
        assert str(error)
