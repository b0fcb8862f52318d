"""MathML: well-formed for every tree, escaped, and saying what the text says."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

import symgrad as sg
from symgrad.formula import notation as n
from symgrad.formula import render_latex, render_mathml, render_text
from symgrad.formula.lines import Line, mathml_block
from symgrad.formula.mathml_symbols import row, symbol_elements
from symgrad.formula.render_mathml import mathml
from symgrad.formula.render_text import text
from symgrad.formula.symbols import Style
from symgrad.formula.update_rule import update_rule
from symgrad.markup import element, html, xml
from symgrad.optimizers import OPTIMIZERS

W, z = Style.of("W2").atom(), Style.of("z").atom()
N = sp.Symbol("N", positive=True, integer=True)


def symbol(latex: str) -> str:
    return xml(row(symbol_elements(latex)))


def words(markup: str) -> str:
    """What is written in it."""
    return "".join(ElementTree.fromstring(markup).itertext())


# one renderer for each kind of node


def test_every_node_has_three_renderers() -> None:
    kinds = set(n.Node.__subclasses__())
    for module in (render_text, render_latex, render_mathml):
        assert set(module._METHODS) == kinds, module.__name__


# goldens


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        ("W^{1}", "<msup><mi>W</mi><mn>1</mn></msup>"),
        (r"\delta_{a}^{2}", "<msubsup><mi>δ</mi><mi>a</mi><mn>2</mn></msubsup>"),
        ("{z^{3}}_{n}", "<msubsup><mi>z</mi><mi>n</mi><mn>3</mn></msubsup>"),
        (r"\mathrm{loss\_m}", '<mi mathvariant="normal">loss_m</mi>'),
        (r"\delta_{\mathrm{a<b}}", '<msub><mi>δ</mi><mi mathvariant="normal">a&lt;b</mi></msub>'),
        (r"f'", "<msup><mi>f</mi><mo>′</mo></msup>"),
        (r"x_{2 h+p}", "<msub><mi>x</mi><mrow><mn>2</mn><mi>h</mi><mo>+</mo><mi>p</mi></mrow></msub>"),
        (r"\nabla W", '<mrow><mi mathvariant="normal">∇</mi><mi>W</mi></mrow>'),
        (r"\bogus", "<mtext>\\bogus</mtext>"),
        (r"\hat{}\backslash{}", None),
        ("{a_", None),
        (r"\frac{1}", None),
        (r"\left(", None),
    ],
)
def test_symbols(latex: str, expected: str | None) -> None:
    """The last ones are broken, and still give markup."""
    assert expected is None or symbol(latex) == expected
    ElementTree.fromstring(symbol(latex))


def test_the_chain_rule_in_mathml() -> None:
    node = n.hadamard([n.product([Style.of("z2").adjoint(), n.transposed(W)]), n.Call("f'", "f'", (z,))])
    root = ElementTree.fromstring(mathml(node))
    assert words(mathml(node)) == "(δ2(W2)⊤)⊙f′\u2061(z)"
    assert [e.text for e in root.iter("mo")].count("⊙") == 1
    assert len(root.findall(".//msup[mo='⊤']")) == 1


def test_a_fraction_is_a_fraction() -> None:
    assert mathml(n.scaled(1 / N, z)) == (
        '<math><mrow><mfrac><mn>1</mn><mi>N</mi></mfrac><mspace width="0.17em" /><mi>z</mi></mrow></math>'
    )


def test_names_are_escaped() -> None:
    """No graph may have such names, but renderers are not the place to rely on it."""
    evil = n.Atom("<b>", r"\mathrm{<script>alert(1)</script>&\"}")
    for node in (evil, n.Call("<i>", "<i>", (evil,)), n.Reduce("sum", ("<n>",), evil)):
        written = mathml(node)
        ElementTree.fromstring(written)
        assert not re.search(r"<(script|i|n|b)\b", written)
    assert "&lt;script&gt;" in mathml(evil)


def test_text_in_markup_is_escaped_and_stays_in_order() -> None:
    made = element("p", {"title": '"<'}, "a<b", element("b", {}, "&"), "c", "d", element("i"), "e")
    assert html(made) == '<p title="&quot;<">a&lt;b<b>&amp;</b>cd<i></i>e</p>'


# every tree

names = st.sampled_from(["x", "W1", "z2", "a_b", "loss_m", "theta", "alpha_1", "h2_d", "fc_weight3"])
numbers = st.sampled_from([sp.Integer(2), sp.Integer(-3), sp.Rational(1, 2), N, 2 * N, N + 1, 1 / N, N - 1])
atoms = st.one_of(names.map(lambda name: Style.of(name).atom()), names.map(lambda name: Style.of(name).adjoint()))
letters = st.lists(st.sampled_from("ijn"), max_size=2, unique=True).map(tuple)


def bigger(inner: st.SearchStrategy[n.Node]) -> st.SearchStrategy[n.Node]:
    several = st.lists(inner, min_size=2, max_size=3)
    relations = st.builds(n.Relation, st.sampled_from("=≠<≤>≥"), inner, inner)
    conditions = st.one_of(
        relations,
        st.builds(n.Logic, st.sampled_from("∧∨"), st.tuples(relations, relations)),
        st.builds(lambda r: n.Logic("¬", (r,)), relations),
    )
    return st.one_of(
        several.map(n.product),
        several.map(n.hadamard),
        several.map(n.total),
        several.map(tuple).map(n.Kronecker),
        st.builds(n.quotient, inner, inner, st.sampled_from("/⊘")),
        st.builds(n.scaled, numbers, inner),
        st.builds(n.Power, inner, st.sampled_from([n.Constant(sp.Integer(2)), n.Constant(N)])),
        inner.map(n.transposed),
        inner.map(n.Inverse),
        st.builds(n.Norm, inner, st.sampled_from(["1", "2", "F"])),
        st.builds(lambda a: n.Call("tanh", r"\tanh", (a,)), inner),
        st.builds(lambda a: n.Call("sqrt", r"\sqrt", (a,)), inner),
        st.builds(lambda a: n.Call("|", "|", (a,)), inner),
        st.builds(n.reduced, st.sampled_from(["sum", "prod", "max"]), letters, inner, st.none() | conditions),
        conditions.map(n.Indicator),
        st.builds(lambda v, c, o: n.Cases(((v, c),), o), inner, conditions, inner),
    )


trees = st.recursive(atoms | numbers.map(n.Constant), bigger, max_leaves=8)


def letters_of(written: str) -> str:
    """Letters and digits in order, whatever their place above or below the line."""
    plain = unicodedata.normalize("NFKC", written.replace("⊤", "T").replace("∑", "Σ").replace("∏", "Π"))
    for word in ("sqrt", "otherwise", " if ", " else "):
        plain = plain.replace(word, " ")
    return re.sub(r"[\W_]", "", plain)


@given(trees)
def test_any_tree_is_well_formed_and_says_what_the_text_says(tree: n.Node) -> None:
    written = mathml(tree)
    assert letters_of(words(written)) == letters_of(text(tree))


@given(trees, trees)
def test_a_line_is_well_formed(left: n.Node, right: n.Node) -> None:
    """Long sums in several rows lose nothing."""
    wide = n.total([right] * 40)
    for line in (Line(left, right), Line(left, wide, None, ((right, left),))):
        root = ElementTree.fromstring(mathml_block([line]))
        assert all(len(r) == 3 for r in root.iter("mtr") if "columnalign" not in r.attrib and len(r) != 2)
        assert letters_of("".join(root.itertext())) == letters_of(line.text)


# what the library writes


def cases() -> list[Any]:
    x, t = sg.input("x", ("N", 4)), sg.input("t", ("N", 3))
    h = x @ sg.parameter("W1", (4, 3)) + sg.parameter("b1", (3,))
    images, filters = sg.input("u", ("N", 1, 6, 6)), sg.parameter("F", (2, 1, 3, 3))
    return [
        sg.mse(sg.softmax(sg.gelu(h)), t),
        sg.mse(sg.layer_norm(sg.leaky_relu(h), sg.parameter("g", (3,)), sg.parameter("c", (3,))), t),
        sg.mean(sg.max_pool(sg.conv2d(images, filters), 2)),
        sg.mean(sg.clip(abs(h), 0.25, 3) ** 3),
    ]


@pytest.mark.parametrize("number", range(4))
def test_derivations_leave_no_latex_unread(number: int) -> None:
    d = sg.derive(sg.graph(cases()[number]))
    for written in (d.mathml, *(d[name].mathml for name in d)):
        root = ElementTree.fromstring(written)
        assert root.tag == "math"
        assert "\\" not in "".join(root.itertext())
        assert {e.text for e in root.iter("mtext")} <= {"otherwise"}
    assert Counter(letters_of(words(d.mathml))) == Counter(letters_of(printed(d)))  # indices stand below exponents


def printed(d: sg.Derivation) -> str:
    """The printed lines of a derivation, without titles and shapes."""
    written = "".join(line.text for _, lines in d._sections() for line in lines)
    return re.sub(r"e-0?(\d+)", r" 10 \1", written)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_rules_have_notation(name: str) -> None:
    for left, right in update_rule(OPTIMIZERS[name]):
        assert letters_of(words(mathml(left)) + words(mathml(right))) == letters_of(text(left) + text(right))
    assert [text(left) for left, _ in update_rule(OPTIMIZERS["adam"])] == ["m", "v", "θ"]
    assert text(update_rule(OPTIMIZERS["adam"])[0][1]) == "β₁ m + (1 − β₁) g"


def test_notebooks_get_three_forms() -> None:
    d = sg.derive(sg.graph(cases()[0]))
    for shown in (d, d["W1"]):
        bundle = shown._repr_mimebundle_()
        assert bundle["text/plain"] == str(shown)
        assert bundle["text/html"] == shown.mathml
        assert bundle["text/latex"] == rf"$\displaystyle {shown.latex}$"
