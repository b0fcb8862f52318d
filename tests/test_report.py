"""The report: everything is there, everything is linked, and a browser has nothing to complain about."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from browser import CHROMIUM, Browser
from hypothesis import given
from hypothesis import strategies as st

import symgrad as sg
from symgrad.cli import main
from symgrad.costs import costs
from symgrad.drawing import Graph, network_diagram, svg
from symgrad.drawing.layout import layered
from symgrad.errors import EmitError, FileError
from symgrad.expand import expand
from symgrad.markup import html
from symgrad.report import Page, is_own_page, subject
from symgrad.report.subject import Subject

EVIL = '</title><script>document.title="taken"</script><img src=x onerror=alert(1)>'
NOTEBOOK = Path(__file__).parent.parent / "examples" / "derivation.ipynb"


# networks


def perceptron() -> nx.MultiDiGraph[Any]:
    h, t = sg.input("x", ("N", 6)), sg.input("t", ("N",), dtype="int64")
    for k, (rows, columns) in enumerate(pairwise((6, 5, 4, 3)), 1):
        W, b = sg.parameter(f"W{k}", (rows, columns)), sg.parameter(f"b{k}", (columns,))
        z = sg.add(h @ W, b, name=f"z{k}")
        h = sg.tanh(z, name=f"a{k}") if k == 1 else sg.relu(z, name=f"a{k}")
    return sg.graph(sg.cross_entropy(z, t, name="loss"), outputs=[z])


def transformer(steps: int = 3, width: int = 4, heads: int = 2) -> nx.MultiDiGraph[Any]:
    """Attention and a GELU layer, both behind a layer norm and beside a shortcut."""
    shape = ("N", steps, heads, width // heads)
    x, t = sg.input("x", ("N", steps, width)), sg.input("t", ("N", steps, width))

    def learned(name: str, *sizes: int) -> sg.Tensor:
        return sg.parameter(name, sizes)

    def split(name: str) -> sg.Tensor:
        return sg.transpose((h @ learned(f"W{name}", width, width)).reshape(shape), (0, 2, 1, 3), name=name)

    h = sg.layer_norm(x, learned("g1", width), learned("c1", width), name="h1")
    q, k, v = split("q"), split("k"), split("v")
    p = sg.softmax(q @ sg.transpose(k, (0, 1, 3, 2)) * 0.5, name="p")
    o = sg.transpose(p @ v, (0, 2, 1, 3)).reshape("N", steps, width)
    r = sg.add(x, o @ learned("Wo", width, width), name="r")
    h = sg.layer_norm(r, learned("g2", width), learned("c2", width), name="h2")
    u = sg.gelu(h @ learned("W1", width, 2 * width) + learned("b1", 2 * width), name="u")
    y = sg.add(r, u @ learned("W2", 2 * width, width) + learned("b2", width), name="y")
    return sg.graph(sg.mse(y, t, name="loss"), outputs=[y])


NETWORKS = {"perceptron": perceptron, "transformer": transformer}


@cache
def page(name: str) -> Page:
    return sg.report(NETWORKS[name](), verify=name == "perceptron")


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {"style": "", "script": "", "": ""}
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        self.within = tag if tag in self.text else ""

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        self.text[self.within] += data

    def having(self, key: str) -> list[tuple[str, dict[str, str]]]:
        return [(tag, attributes) for tag, attributes in self.elements if key in attributes]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.having("id")]


@cache
def read(name: str) -> Reader:
    return Reader(page(name).html)


both = pytest.mark.parametrize("name", NETWORKS)


# the page by itself


@both
def test_the_page_is_alone(name: str) -> None:
    """Nothing is loaded, no style or handler stands in an element, and the policy names what the page has."""
    reader = read(name)
    policy = next(a["content"] for _, a in reader.having("http-equiv"))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(reader.text[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert [tag for tag, _ in reader.elements].count(kind) == 1
    assert policy.startswith("default-src 'none'")
    for tag, attributes in reader.elements:
        assert not {"style", "src", "srcset", "data", "action"} & attributes.keys(), tag
        assert not any(key.startswith("on") for key in attributes), tag
        assert attributes.get("href", "#").startswith("#"), tag
    assert not re.search(r"@import|url\(", reader.text["style"])


@both
def test_every_link_has_a_place_and_every_place_one_name(name: str) -> None:
    reader = read(name)
    assert len(reader.ids) == len(set(reader.ids))
    for _, attributes in reader.having("href"):
        assert attributes["href"][1:] in reader.ids, attributes


@both
def test_every_section_is_there(name: str) -> None:
    wanted = ["graph", "forward", "loss", "backward", "update", "program", "verification", "costs"]
    sections = [a["id"] for tag, a in read(name).elements if tag == "section"]
    assert [s for s in sections if s in wanted] == wanted


@both
def test_code_formulas_and_nodes_are_linked_both_ways(name: str) -> None:
    """Each mapped line leads to its formula and node, each formula to its lines and node, each node to a formula."""
    graph = NETWORKS[name]()
    about = Subject(sg.derive(graph), "adam", False)
    lines = {a["id"]: a for _, a in read(name).having("id") if a["id"].startswith("L")}
    linked = {row.name for row in about.rows.values() if row.entries}
    assert linked == set(about.rows), "a formula without code"
    for entry in about.entries:
        if entry.stage in ("forward", "loss", "backward"):
            assert about.formulas_of(entry), entry
            for number in range(entry.first, entry.last + 1):
                attributes = lines[f"L{number}"]
                assert set(about.formulas_of(entry)) <= set(attributes["data-f"].split())
                assert entry.node in attributes["data-n"].split()
    boxes = {a["id"][2:]: a["data-of"].split() for _, a in read(name).having("data-of")}
    assert sorted(node for members in boxes.values() for node in members) == sorted(graph)
    for row in about.rows.values():
        assert about.box(row.node) in boxes
    for op in (node for node in boxes if graph.nodes[node]["op"] not in ("input", "constant", "parameter")):
        assert set(boxes[op]) & {row.node for row in about.rows.values()}, op


def test_the_line_beside_a_formula_is_the_one_that_computes_it() -> None:
    about = Subject(sg.derive(perceptron()), "adam", False)
    source = about.program.source.split("\n")  # type: ignore[union-attr]
    found = {
        name: [source[n - 1].strip() for e in row.entries for n in range(e.first, e.last + 1)]
        for name, row in about.rows.items()
    }
    assert found["d_W2"] == ["d_W2 = a1.T @ d_z2"]
    assert found["a2"] == ["a2 = np.where(z2 > 0, z2, 0)"]
    assert set(found["z1"]) == {"z1 = x @ W1 + b1"}  # two entries of one line, for the product and the sum


def test_gradients_flow_where_the_network_learns() -> None:
    reader = read("perceptron")
    back = {(a["data-from"], a["data-to"]) for _, a in reader.having("data-from") if "backward" in a["class"]}
    forward = {(a["data-from"], a["data-to"]) for _, a in reader.having("data-from") if "forward" in a["class"]}
    assert forward - back == {("x", "z1"), ("t", "loss")}
    assert ("W1", "z1") in back and back <= forward


def test_shapes_stand_on_the_edges() -> None:
    text = html(svg(network_diagram(perceptron(), expand(perceptron()))))
    assert {"(N, 6)", "(6, 5)", "(5,)", "(N, 3)"} <= set(re.findall(r">([^<]*)</text>", text))


@both
def test_every_formula_can_be_copied(name: str) -> None:
    copies = [a["data-latex"] for tag, a in read(name).elements if tag == "button"]
    d = sg.derive(NETWORKS[name]())
    assert len(copies) == sum(len(names) for _, names in d.stages()) + len(d.functions()) + 1
    assert all(copies)


def test_titles_are_escaped() -> None:
    made = sg.report(perceptron(), title=EVIL, verify=False)
    reader = Reader(made.html)
    tags = [tag for tag, _ in reader.elements]
    assert "img" not in tags and tags.count("script") == 1
    assert EVIL in reader.text[""]


def test_the_same_network_gives_the_same_bytes() -> None:
    assert sg.report(perceptron()).html == page("perceptron").html


def test_evidence_is_made_taken_or_left_out() -> None:
    text = read("perceptron").text[""]
    assert "verified: worst error" in text and "50 digits" in text
    evidence = sg.verify(perceptron(), ["b3"], entries=1)
    rows = Reader(sg.report(perceptron(), verify=evidence).html).elements
    assert [a["data-n"] for tag, a in rows if tag == "tr" and a.get("class") == "ok"] == ["loss", "b3"]
    assert "were not verified" in sg.report(perceptron(), verify=False).html


def test_costs_are_polynomials() -> None:
    text = read("perceptron").text[""].replace("\n", "")
    found = costs(sg.derive(perceptron()))
    (N,) = found.dimensions
    assert f"operations{found.flops.coeff(N)}N" in text
    assert f"parameters{(6 + 1) * 5 * 4 + (5 + 1) * 4 * 4 + (4 + 1) * 3 * 4}" in text


def test_a_wrong_gradient_shows() -> None:
    right = sg.verify(perceptron(), ["b3"], entries=1)
    row = right["b3"]
    worse = {method: replace(c, relative=1.0, ok=False) for method, c in row.comparisons.items()}
    text = sg.report(perceptron(), verify=replace(right, rows=(right["loss"], replace(row, comparisons=worse)))).html
    assert "WRONG: worst error 1.0e+00" in text and 'class="wrong"' in text


def test_a_network_too_large_to_verify_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MOST", 10)
    assert "too large to be verified" in sg.report(perceptron()).html


def test_a_derivation_without_a_program() -> None:
    d = sg.derive(perceptron(), ["W1"], of="z3", seed="v")
    text = sg.report(d).html
    assert "no training program belongs to it" in text and 'id="f-d_W1"' in text


def test_unknown_optimizers_are_refused() -> None:
    with pytest.raises(EmitError, match="unknown optimizer 'adamm'"):
        sg.report(perceptron(), optimizer="adamm", verify=False)
    assert "Polyak" in sg.report(perceptron(), optimizer="momentum", verify=False).html


# files


def test_pages_are_replaced_only_if_nobody_changed_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, target = tmp_path / "net.json", tmp_path / "page.html"
    sg.save_graph(perceptron(), network)
    command = ["inspect", str(network), "--html", str(target)]
    assert main(command) == 0
    assert capsys.readouterr().out == f"wrote: {target}\n"
    assert is_own_page(target.read_text(encoding="utf-8"))
    target.write_text(page("transformer").html, encoding="utf-8")
    assert main(command) == 0 and "cross_entropy" in target.read_text(encoding="utf-8")
    target.write_text("mine", encoding="utf-8")
    assert main(command) == 1
    assert "changed since" in capsys.readouterr().err and target.read_text() == "mine"
    assert main([*command, "--force"]) == 0
    with pytest.raises(FileError, match="cannot be written"):
        sg.write_html(perceptron(), tmp_path / "none" / "page.html", verify=False)


def test_a_changed_page_is_not_ours() -> None:
    text = page("perceptron").html
    assert is_own_page(text) and is_own_page(text.replace("\n", "\r\n"))
    assert not is_own_page(text.replace("tanh", "sinh")) and not is_own_page(text + "\n") and not is_own_page("")


# the layout


@given(st.data())
def test_no_two_boxes_meet(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 14))
    names = [f"v{k}" for k in range(count)]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda p: p[0] < p[1])
    chosen = data.draw(st.lists(pairs, max_size=25, unique=True)) if count > 1 else []
    sides = {name: (data.draw(st.floats(5, 60)), data.draw(st.floats(5, 60))) for name in names}
    edges = [(names[a], names[b]) for a, b in chosen]
    layout = layered(sides, edges)
    for u, v in edges:
        assert layout.layer[u] < layout.layer[v]
        assert [k for k, _ in layout.bends[u, v]] == list(range(layout.layer[u] + 1, layout.layer[v]))
    for k in set(layout.layer.values()):
        row = sorted((layout.x[n], n) for n in names if layout.layer[n] == k)
        for (x0, left), (x1, right) in pairwise(row):
            assert x1 - x0 >= sides[left][1] + sides[right][0] + 19.9
    assert min(layout.x[n] - sides[n][0] for n in names) >= -1e-6
    assert max(layout.x[n] + sides[n][1] for n in names) <= layout.width + 1e-6


def test_a_chain_is_straight_and_crossings_are_avoided() -> None:
    chain = layered(dict.fromkeys("abcd", (10, 10)), [("a", "b"), ("b", "c"), ("c", "d")])
    assert len({round(x, 6) for x in chain.x.values()}) == 1
    crossed = layered(dict.fromkeys("abcd", (10, 10)), [("a", "d"), ("b", "c"), ("a", "d")])
    assert (crossed.x["a"] < crossed.x["b"]) == (crossed.x["d"] < crossed.x["c"])


def test_a_thousand_layers_are_drawn() -> None:
    h = sg.input("x", ("N", 2))
    for k in range(1000):
        h = sg.tanh(h, name=f"h{k}")
    graph = sg.graph(sg.mean(h, name="loss"))
    assert html(svg(network_diagram(graph, expand(graph)))).count("<rect") == 1002


# notebooks


def test_graphs_show_themselves_and_stay_graphs(tmp_path: Path) -> None:
    graph = perceptron()
    assert isinstance(graph, Graph) and isinstance(graph, nx.MultiDiGraph)
    shown = graph._repr_mimebundle_()  # type: ignore[attr-defined]
    assert shown["text/html"].startswith("<svg") and "text/plain" in shown
    assert isinstance(graph.copy(), Graph) and nx.is_directed_acyclic_graph(graph)
    sg.save_graph(graph, tmp_path / "net.json")
    assert isinstance(sg.load_graph(tmp_path / "net.json"), Graph)
    assert set(Graph()._repr_mimebundle_()) <= {"text/plain", "text/html"}
    broken = Graph(symgrad=1)
    broken.add_node("y", op="nonsense")
    assert set(broken._repr_mimebundle_()) == {"text/plain"}


def test_programs_reports_and_pages_show_themselves() -> None:
    program = sg.emit(sg.derive(perceptron()), style="readable")
    bundle = program._repr_mimebundle_()
    assert bundle["text/plain"] == program.source and "a1 = np.tanh(z1)" in bundle["text/html"]
    assert "z2 &gt; 0" in bundle["text/html"]
    evidence = sg.verify(perceptron(), ["b3"], entries=1)
    assert evidence._repr_mimebundle_()["text/html"].count("<tr>") == 3
    framed = page("perceptron")._repr_mimebundle_()["text/html"]
    (_, attributes), *rest = Reader(framed).elements
    assert attributes["srcdoc"] == page("perceptron").html and not rest


def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code cells, in order; what was printed then is printed now."""
    monkeypatch.chdir(tmp_path)
    cells = [c for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    names: dict[str, Any] = {}
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec("".join(cell["source"]), names)
        recorded = ["".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream"]
        assert "".join(recorded) == printed.getvalue()
    assert any(o.get("data", {}).get("text/html") for c in cells for o in c["outputs"])


# in a browser

chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Any:
    """A function that shows a page and gives the browser."""

    def show(made: Page, **how: Any) -> Browser:
        file = tmp_path / "page.html"
        made.save(file)
        browser.complaints.clear()
        browser.requests.clear()
        browser.open(file, **how)
        return browser

    return show


@chromium
@both
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_does_not_complain(opened: Any, name: str, scheme: str) -> None:
    shown = opened(page(name), scheme=scheme)
    assert shown.complaints == []
    assert all(url.startswith("file:") and url.endswith("page.html") for url in shown.requests)
    assert shown.value("getComputedStyle(document.body).backgroundColor") in ("rgb(253, 253, 251)", "rgb(23, 24, 27)")
    assert (shown.value("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 27)") == (scheme == "dark")


@chromium
def test_the_policy_stops_what_is_not_ours(opened: Any) -> None:
    """The browser would complain: a page with a script of somebody else in it is made to show that it does."""
    foreign = page("perceptron").html.replace("</main>", "<script>document.title = 'taken'</script></main>")
    shown = opened(Page("x", foreign))
    assert shown.value("document.title") != "taken" and any("Content Security Policy" in c for c in shown.complaints)
    shown = opened(sg.report(perceptron(), title=EVIL, verify=False))
    assert shown.complaints == [] and shown.value("document.title") == EVIL


@chromium
def test_what_belongs_together_lights_up(opened: Any) -> None:
    shown = opened(page("perceptron"))
    lit = "[...document.querySelectorAll('.lit')].map(e => e.id || e.tagName)"
    line = next(
        n for n, text in enumerate(page_source(), 1) if text.strip() == "d_W2 = a1.T @ d_z2"
    )  # its number in the file
    for clicked in ("#f-d_W2 .math", f"#L{line} code"):
        shown.value(f"document.querySelector('{clicked}').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
        assert {"f-d_W2", f"L{line}", "n-W2"} <= set(shown.value(lit)), clicked
        assert "f-d_W1" not in shown.value(lit)
    shown.value("location.hash = '#n-z2'; new Promise(done => setTimeout(done, 50))")
    assert {"n-z2", "f-z2", "f-d_z2"} <= set(shown.value(lit)) and "f-d_W1" not in shown.value(lit)
    shown.value("document.querySelector('h1').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert shown.value(lit) == []


def page_source() -> list[str]:
    program = Subject(sg.derive(perceptron()), "adam", False).program
    return program.source.split("\n")  # type: ignore[union-attr]


@chromium
def test_latex_is_copied(opened: Any) -> None:
    shown = opened(page("perceptron"))
    shown.value("navigator.clipboard.writeText = text => { window.taken = text; return Promise.resolve(); }; 0")
    shown.value("document.querySelector('#f-d_W2 button').click(); 0")
    assert shown.value("window.taken") == sg.derive(perceptron())["W2"].latex.split(" \\\\")[0].replace(
        "\\begin{aligned}\n  ", ""
    ).replace("&=", "=")
    assert shown.value("document.querySelector('#f-d_W2 button').textContent") == "Copied"


@chromium
@both
@pytest.mark.parametrize(("width", "media"), [(1200, ""), (400, ""), (700, "print")])
def test_nothing_is_wider_than_the_page(opened: Any, name: str, width: int, media: str) -> None:
    """What is wide scrolls by itself; on a narrow screen code stands below its formula, in print beside it."""
    shown = opened(page(name), width=width, media=media)
    if not media:
        assert shown.value("document.documentElement.scrollWidth") <= width
    places = "['.formula', '.code'].map(s => document.querySelector('#f-z1 ' + s).getBoundingClientRect().top)"
    formula, code = shown.value(places)
    assert (code > formula + 10) == (width == 400)


@chromium
def test_it_prints(opened: Any) -> None:
    data = opened(page("transformer")).pdf()
    assert data.startswith(b"%PDF") and 4 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 20


@chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(opened: Any, scheme: str) -> None:
    """A contrast of 4.5 or more for all text colours, on the paper, in panels and where things are lit."""
    shown = opened(page("perceptron"), scheme=scheme)
    names = ("ink", "quiet", "link", "ok", "wrong", "paper", "panel", "lit", "input", "parameter", "op", "loss")
    script = (
        "Object.fromEntries({}.map(n => [n, getComputedStyle(document.documentElement).getPropertyValue('--' + n)]))"
    )
    colours = {n: luminance(c) for n, c in shown.value(script.format(json.dumps(names))).items()}
    pairs = [(text, below) for text in ("ink", "link") for below in names[5:]]
    pairs += [(text, below) for text in ("quiet", "ok", "wrong") for below in ("paper", "panel", "op")]
    for text, below in pairs:
        light, dark = sorted((colours[text], colours[below]), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, below)


def luminance(colour: str) -> float:
    parts = [int(colour.strip()[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
