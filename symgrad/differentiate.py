"""The command `symgrad EXPRESSION --wrt x`: formula, steps, LaTeX and NumPy function of a derivative."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from symgrad.calculus import Derivative, gradient, hessian, hvp, jacobian
from symgrad.calculus.result import Result
from symgrad.errors import DeriveError, FormulaError
from symgrad.expression import Declaration, read_declaration

Writer = Callable[[Path, bytes], None]

_KINDS: dict[str, Callable[..., Result]] = {
    "gradient": gradient,
    "jacobian": jacobian,
    "hessian": hessian,
    "hvp": hvp,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The expression and the options."""
    parser.add_argument("expression", metavar="EXPRESSION", help='in NumPy syntax: "norm2(A @ x - b)**2"')
    variables = "the variables, after EXPRESSION (default: the only one)"
    parser.add_argument("--wrt", nargs="+", metavar="NAME", help=variables)
    kinds = parser.add_mutually_exclusive_group()
    for kind in _KINDS:
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=_HELP[kind])
    declare = 'such as "A: symmetric(n,n)": scalar, vector, matrix, symmetric, spd, tensor'
    parser.add_argument("--declare", nargs="+", default=[], metavar="DECLARATION", help=declare)
    parser.add_argument("--latex", action="store_true", help="print the LaTeX alone")
    parser.add_argument("--code", type=Path, metavar="FILE", help="write the function, with checks, to a file")
    parser.set_defaults(kind="gradient")


_HELP = {
    "gradient": "of a scalar expression (default)",
    "jacobian": "of an expression of any shape",
    "hessian": "of a scalar expression, with its structure",
    "hvp": "the Hessian times a vector v",
}


def run(options: argparse.Namespace, write: Writer) -> int:
    """Derive, print, and write what is asked for."""
    declarations = _declarations(options.declare)
    results = list(_results(options, declarations))
    if options.code and len(results) > 1:
        raise DeriveError("--code writes the function of one derivative", hint="name one variable with --wrt")
    for number, result in enumerate(results):
        print("\n" * bool(number) + (result.latex if options.latex else described(result)))
    if options.code:
        write(options.code, results[0].code.encode())
        print(f"wrote: {options.code}")
    return 0


def _declarations(texts: Iterable[str]) -> dict[str, Declaration]:
    """The declarations by name. Raises FormulaError where two differ."""
    found: dict[str, Declaration] = {}
    for declaration in map(read_declaration, texts):
        name = declaration.name
        if found.setdefault(name, declaration) != declaration:
            raise FormulaError(f"{name!r} is declared twice, in different ways", hint="declare it once")
    return found


def _results(options: argparse.Namespace, declarations: Mapping[str, object]) -> Iterator[Result]:
    derive = _KINDS[options.kind]
    if options.kind == "hessian":
        names = options.wrt if options.wrt is None or len(options.wrt) > 1 else options.wrt[0]
        yield derive(options.expression, names, declarations)
        return
    for name in options.wrt or [None]:
        yield derive(options.expression, name, declarations)


def described(result: Result) -> str:
    """Formula, steps, LaTeX and code, in sections."""
    parts = [str(result)]
    if isinstance(result, Derivative) and result.kind == "gradient":
        parts.append(f"steps\n{_indented(str(result.steps()))}")
    parts += [f"LaTeX\n{_indented(result.latex)}", f"NumPy\n{_indented(result.program.listing)}"]
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join("  " + line if line else "" for line in text.splitlines())
