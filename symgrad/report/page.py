"""The page: everything in one HTML file that loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element

import networkx as nx

from symgrad.formula import Derivation
from symgrad.markup import element, html
from symgrad.pipeline import derive
from symgrad.report.sections import formula_sections, graph_section, program_section, update_section
from symgrad.report.subject import Subject
from symgrad.report.tables import costs_section, summary, verification_section
from symgrad.verify import Report
from symgrad.writing import write_whole

SEAL = "<!-- Written by symgrad; SHA-256 of the lines above: "
SEAL_END = " -->\n"


@dataclass(frozen=True)
class Page:
    """A finished report: `html` is the text of the file."""

    title: str
    html: str

    def __repr__(self) -> str:
        return f"<Page {self.title!r}, {len(self.html) // 1024} KiB>"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all. Raises FileError where that cannot be."""
        write_whole(path, self.html)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """In a notebook the page stands in a frame of its own, so that neither disturbs the other."""
        frame = {"srcdoc": self.html, "width": "100%", "height": "720", "title": self.title}
        return {"text/plain": repr(self), "text/html": html(element("iframe", frame))}


def report(
    network: nx.MultiDiGraph[Any] | Derivation,
    wrt: Sequence[str] | None = None,
    *,
    optimizer: str = "adam",
    title: str = "",
    verify: bool | Report = True,
) -> Page:
    """The report on a network, or on a derivation that was made of one.

    Args:
        wrt: the tensors to differentiate by, by default all parameters; of no meaning for a derivation.
        optimizer: whose update rule is shown and emitted.
        title: the page's heading.
        verify: whether some entries of the gradients are compared with numeric ones, which takes the longest and
            is left out for large networks; or a report of this already made.

    Raises:
        GraphError and its kinds, DeriveError: the network has no such gradients.
        EmitError: there is no such optimizer.
    """
    derivation = network if isinstance(network, Derivation) else derive(network, wrt)
    subject = Subject(derivation, optimizer, verify)
    title = title or f"The gradients of {derivation.system.loss}"
    return Page(title, sealed(_document(subject, title)))


def write_html(
    network: nx.MultiDiGraph[Any] | Derivation,
    path: str | os.PathLike[str],
    wrt: Sequence[str] | None = None,
    *,
    optimizer: str = "adam",
    title: str = "",
    verify: bool | Report = True,
) -> None:
    """Write `report(...)` to a file, whole or not at all. Raises FileError where that cannot be, and as `report`."""
    report(network, wrt, optimizer=optimizer, title=title, verify=verify).save(path)


# the document


def _document(subject: Subject, title: str) -> str:
    sections = [
        graph_section(subject),
        *formula_sections(subject),
        update_section(subject),
        program_section(subject),
        verification_section(subject),
        costs_section(subject),
    ]
    body = element(
        "body",
        {},
        element("header", {}, element("h1", {}, title), summary(subject), _contents(sections)),
        element("main", {}, *sections),
        element("script", {}, _own("page.js")),
    )
    return "<!DOCTYPE html>\n" + html(element("html", {"lang": "en"}, _head(title), body)) + "\n"


def _head(title: str) -> Element:
    policy = f"default-src 'none'; style-src '{_hash('page.css')}'; script-src '{_hash('page.js')}'; "
    policy += "base-uri 'none'; form-action 'none'"
    return element(
        "head",
        {},
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("meta", {"name": "generator", "content": "symgrad"}),
        element("title", {}, title),
        element("style", {}, _own("page.css")),
    )


def _contents(sections: Sequence[Element]) -> Element:
    """Links to the sections."""
    items = [element("a", {"href": "#" + s.attrib["id"]}, s.attrib["id"]) for s in sections]
    return element("nav", {"aria-label": "Sections"}, *items)


@cache
def _own(name: str) -> str:
    """The page's own style sheet or script. It stands in the page as it is, so it must not end its element."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(name: str) -> str:
    """What the page's policy calls the only style sheet, or script, that is allowed."""
    return "sha256-" + base64.b64encode(hashlib.sha256(_own(name).encode()).digest()).decode()


# whose file it is


def sealed(text: str) -> str:
    """The page with a last line that tells whether anybody changed it since."""
    return text + SEAL + _digest(text) + SEAL_END


def is_own_page(text: str) -> bool:
    """Whether this is a page as it was written (line ends aside)."""
    page, seal, rest = text.replace("\r\n", "\n").rpartition(SEAL)
    return bool(seal) and rest == _digest(page) + SEAL_END


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
