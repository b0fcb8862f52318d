"""The command line: `symgrad demo | inspect | emit | tune | verify | grade | train`, or `symgrad "norm2(x)" --wrt x`.

Results go to stdout, progress and errors to stderr. The exit code is 0 for success, 1 for an error or the
answer no, 2 for wrong usage, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

import networkx as nx

import symgrad
from symgrad.builder import Tensor
from symgrad.demo import run_demo
from symgrad.differentiate import add_arguments
from symgrad.differentiate import run as run_differentiate
from symgrad.emit import Program, is_untouched
from symgrad.errors import FileError, SymgradError, nearest
from symgrad.files import load_graph
from symgrad.grade import grade
from symgrad.optimizers import OPTIMIZERS
from symgrad.pipeline import DTYPES, STYLES, derive, emit
from symgrad.report import is_own_page, report
from symgrad.tune import tune
from symgrad.verify import verify
from symgrad.writing import write_whole

GRAPH_HELP = (
    "a graph file (JSON), or FILE.py:NAME, where NAME is a graph, a tensor (taken as the loss) or a function "
    "that returns one of them; FILE.py is your own code, and it is executed"
)

NAMED_ANSWER = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)(.*)", re.DOTALL)

Arguments = list[str]
DIFFERENTIATE = "differentiate"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout:
            sys.stdout.flush()  # a reader that has gone away shows here
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
    except (SymgradError, OSError) as error:
        print(f"symgrad: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("symgrad: interrupted", file=sys.stderr)
        return 130
    return 1


def _run(argv: Arguments) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of mathematics
    try:
        options, rest = _parsed(argv)
    except SystemExit as stop:  # argparse has printed its message
        return int(stop.code or 0)
    command: Callable[[argparse.Namespace, Arguments], int] = options.command
    return command(options, rest)


# arguments


def _parsed(argv: Arguments) -> tuple[argparse.Namespace, Arguments]:
    """The options, and the arguments that `train` hands on."""
    parser = _parser()
    options, rest = parser.parse_known_args(_with_command(argv))
    if rest and options.command is not _train:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if options.command is _grade:
        _check_answers(options)
    if rest and argv.index(rest[0]) < argv.index(options.graph):
        parser.error(f"GRAPH comes before {rest[0]}: symgrad train GRAPH DATA.npz [options]")
    return options, rest


def _check_answers(options: argparse.Namespace) -> None:
    if bool(options.answer) == bool(options.function):
        options.refuse("expected --answer FORMULA or FILE.py:FUNCTION, one of the two")
    unnamed = [text for text in options.answer if not NAMED_ANSWER.fullmatch(text)]
    if unnamed and (len(options.answer) > 1 or len(options.wrt or ()) > 1):
        options.refuse('several answers need names: --answer W1="..." --answer W2="..."')


def _with_command(argv: Arguments) -> Arguments:
    """An expression in the place of a command is to be differentiated."""
    if not argv or argv[0].startswith("--") or argv[0].isidentifier() or argv[0] == "-h":
        return argv
    expression, *rest = argv
    return [DIFFERENTIATE, *rest, "--", expression] if expression.startswith("-") else [DIFFERENTIATE, *argv]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="symgrad",
        description="A network in; formulas, NumPy training code and evidence for its gradients out.",
        epilog="Results go to stdout, progress and errors to stderr. Exit codes: 0 success, 1 an error or "
        "the answer no, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"symgrad {symgrad.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_demo,
        _add_differentiate,
        _add_inspect,
        _add_emit,
        _add_tune,
        _add_verify,
        _add_grade,
        _add_train,
    ):
        add(commands)
    return parser


def _add_command(
    commands: Any, run: Callable[..., int], name: str, summary: str, **settings: Any
) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    if name != "demo":
        settings = {"usage": "%(prog)s GRAPH [options]"} | settings
    settings |= {"help": summary, "description": description}
    made: argparse.ArgumentParser = commands.add_parser(name, **settings)
    made.set_defaults(command=run)
    return made


def _add_graph(parser: argparse.ArgumentParser, wrt: bool = True) -> None:
    parser.add_argument("graph", type=_source, metavar="GRAPH", help=GRAPH_HELP)
    if wrt:
        names = "the tensors to differentiate by, after GRAPH (default: all parameters)"
        parser.add_argument("--wrt", nargs="+", metavar="NAME", help=names)


def _add_form(parser: argparse.ArgumentParser) -> None:
    _add_training(parser)
    _add_style(parser)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="(default adam)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="(default float32)")


def _add_style(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--style", choices=STYLES, default="fast", help="form of the program (default fast)")


def _add_force(parser: argparse.ArgumentParser) -> None:
    text = "replace existing files, also those that symgrad did not write or somebody changed"
    parser.add_argument("--force", action="store_true", help=text)


def _add_demo(commands: Any) -> None:
    parser = _add_command(commands, _demo, "demo", "classify handwritten digits: the whole way")
    where = "where the files go (default: here)"
    parser.add_argument("--directory", type=Path, default=Path(), metavar="DIR", help=where)
    _add_force(parser)


def _add_differentiate(commands: Any) -> None:
    summary = "derive one expression; `differentiate` may be left out"
    usage = "symgrad EXPRESSION [--wrt NAME ...] [options]"
    parser = _add_command(commands, _differentiate, DIFFERENTIATE, summary, usage=usage)
    add_arguments(parser)
    _add_force(parser)


def _add_inspect(commands: Any) -> None:
    parser = _add_command(commands, _inspect, "inspect", "print the derivation of the gradients")
    _add_graph(parser)
    notation = parser.add_mutually_exclusive_group()
    notation.add_argument("--latex", action="store_true", help="in LaTeX, for math mode")
    notation.add_argument("--indexed", action="store_true", help="each gradient in index notation")
    page = "write a page with graph, formulas, code, evidence and costs instead"
    notation.add_argument("--html", type=Path, metavar="FILE", help=page)
    _add_force(parser)


def _add_emit(commands: Any) -> None:
    parser = _add_command(commands, _emit, "emit", "write the program that trains the network")
    _add_graph(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default: stdout)")
    _add_form(parser)
    _add_force(parser)


def _add_tune(commands: Any) -> None:
    parser = _add_command(commands, _tune, "tune", "measure what makes the program fastest here, and write it so")
    _add_graph(parser)
    sizes = "the size of a named dimension of the inputs; may be given several times"
    measured = partial(_dimension, purpose="measure")
    parser.add_argument("--size", type=measured, action=_Sizes, default=[], metavar="NAME=SIZE", help=sizes)
    seconds = "how long each program is measured (default 1)"
    parser.add_argument("--seconds", type=_seconds, default=1.0, metavar="S", help=seconds)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default: stdout)")
    _add_training(parser)
    _add_force(parser)


def _add_verify(commands: Any) -> None:
    parser = _add_command(commands, _verify, "verify", "compare the program's gradients with numeric ones")
    _add_graph(parser)
    sizes = "sizes of named dimensions, after GRAPH (default: small ones)"
    form: dict[str, Any] = {"type": _dimension, "action": _Sizes, "default": [], "metavar": "NAME=SIZE"}
    parser.add_argument("--dims", nargs="+", help=sizes, **form)
    parser.add_argument("--seed", type=_natural, default=0, help="of the random data (default 0)")
    entries = "how many entries of each gradient are compared (default 12)"
    parser.add_argument("--entries", type=_positive, default=12, metavar="COUNT", help=entries)
    _add_style(parser)


def _add_grade(commands: Any) -> None:
    parser = _add_command(
        commands,
        _grade,
        "grade",
        "say whether gradients are right, and what is wrong with them",
        usage='%(prog)s GRAPH --wrt NAME --answer FORMULA | --answer NAME=FORMULA ... | FILE.py:FUNCTION [--wrt NAME]',
        epilog="Exit codes: 0 right, 1 wrong or an error, 2 wrong usage.",
    )
    _add_graph(parser)
    formula = 'a gradient in NumPy\'s syntax over the network\'s tensors, "h.T @ (p - t)"; may be given several times'
    parser.add_argument("--answer", action="append", default=[], metavar="[NAME=]FORMULA", help=formula)
    function = "your own backward function: it is executed, and called with the tensors that its parameters name"
    parser.add_argument("function", nargs="?", metavar="FILE.py:FUNCTION", help=function)
    parser.set_defaults(refuse=parser.error)


def _add_train(commands: Any) -> None:
    parser = _add_command(
        commands,
        _train,
        "train",
        "emit the program in memory and run it on an .npz file of arrays",
        usage="%(prog)s GRAPH DATA.npz [options] [options of the program]",
        epilog="symgrad train GRAPH --help also lists the program's own options: epochs, batch size, "
        "hyperparameters, files to save to.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-h", "--help", action=_TrainHelp, nargs=0, default=False, help="show this help")
    _add_graph(parser, wrt=False)
    _add_form(parser)


class _TrainHelp(argparse.Action):
    """Help that goes on with the program's own where there is a graph to make it from."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        parser.print_help()
        if getattr(namespace, "graph", None) is None:
            parser.exit()
        namespace.help = True


def _source(text: str) -> str:
    if text.endswith((".py", ".py:")):
        name = text.rstrip(":")
        raise argparse.ArgumentTypeError(f"{name!r} needs the name of a graph in it, as in {name}:loss")
    return text


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, got {text!r}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return seconds


class _Sizes(argparse.Action):
    """Sizes of named dimensions, by one option or by several."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, given: Any, option: str | None = None
    ) -> None:
        found = dict(getattr(options, self.dest))
        for name, size in given if isinstance(given, list) else [given]:
            if found.setdefault(name, size) != size:
                raise argparse.ArgumentError(self, f"the size of {name} is given as {found[name]} and as {size}")
        setattr(options, self.dest, list(found.items()))


def _dimension(text: str, purpose: str = "verify") -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not name or not size.isdecimal():
        raise argparse.ArgumentTypeError(f"expected NAME=SIZE, as in N=5, got {text!r}")
    if int(size) < 1:
        raise argparse.ArgumentTypeError(f"there is nothing to {purpose} in {text!r}; a size is 1 or more")
    return name, int(size)


# commands


def _demo(options: argparse.Namespace, _: Arguments) -> int:
    write, check = partial(replace_file, force=options.force), partial(check_place, force=options.force)
    return run_demo(options.directory, write, check)


def _differentiate(options: argparse.Namespace, _: Arguments) -> int:
    _note("deriving ...")
    return run_differentiate(options, partial(replace_file, force=options.force))


def _inspect(options: argparse.Namespace, _: Arguments) -> int:
    graph = network(options.graph)
    if options.html is not None:
        return _write_page(graph, options)
    _note("deriving the gradients ...")
    derivation = derive(graph, options.wrt)
    if options.indexed:
        print("\n\n".join(derivation[name].indexed for name in derivation))
    else:
        print(derivation.latex if options.latex else derivation)
    return 0


def _write_page(graph: nx.MultiDiGraph[Any], options: argparse.Namespace) -> int:
    check_output(options.html, options.force)
    _note("deriving the gradients, writing the program and verifying it ...")
    replace_file(options.html, report(graph, options.wrt).html.encode(), options.force)
    print(f"wrote: {options.html}")
    return 0


def _emit(options: argparse.Namespace, _: Arguments) -> int:
    _deliver(_program(options, options.wrt), options)
    return 0


def _deliver(program: Program, options: argparse.Namespace) -> None:
    """Write the program to the file that the options name, or print it."""
    if options.output is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")  # as Python reads its files
        sys.stdout.write(program.source)
    else:
        replace_file(options.output, program.source.encode(), options.force)
        print(f"wrote: {options.output}")


def _tune(options: argparse.Namespace, _: Arguments) -> int:
    graph = network(options.graph)
    if options.output is not None:
        check_output(options.output, options.force)
    _note("deriving the gradients, writing the program and measuring it ...")
    show = partial(print, file=sys.stderr if options.output is None else sys.stdout, flush=True)
    derivation, sizes = derive(graph, options.wrt), dict(options.size)
    program = tune(derivation, sizes, options.optimizer, options.dtype, seconds=options.seconds, show=show)
    _deliver(program, options)
    return 0


def _verify(options: argparse.Namespace, _: Arguments) -> int:
    graph = network(options.graph)
    _note("verifying: comparing the program's gradients with numeric ones ...")
    report = verify(
        graph,
        options.wrt,
        dims=dict(options.dims),
        seed=options.seed,
        style=options.style,
        entries=options.entries,
    )
    print(report)
    return 0 if report.ok else 1


def _grade(options: argparse.Namespace, _: Arguments) -> int:
    if options.function:
        wrt = options.wrt[0] if options.wrt and len(options.wrt) == 1 else options.wrt
        result = grade(network(options.graph), wrt, answer=_function(options.function))
    else:
        result = grade(network(options.graph), answer=_named_answers(options))
    print(result)
    return 0 if result else 1


def _named_answers(options: argparse.Namespace) -> str | dict[str, str]:
    """--answer W1="..." by name; one without a name is for the tensor that --wrt names."""
    pairs = [NAMED_ANSWER.fullmatch(text) for text in options.answer]
    if None not in pairs:
        return {pair[1]: pair[2] for pair in pairs if pair is not None}
    return {options.wrt[0]: options.answer[0]} if options.wrt else str(options.answer[0])


def _function(source: str) -> Callable[..., Any]:
    """The function of `FILE.py:NAME`."""
    path, _, name = source.rpartition(":")
    if not path.endswith(".py"):
        raise FileError(f"{source} names no function", hint="FILE.py:NAME")
    module = _executed(Path(path))
    value = vars(module).get(name)
    if not callable(value):
        known = [n for n, v in vars(module).items() if callable(v)]
        raise FileError(f"{path} defines no function {name!r}", hint=nearest(name, known))
    function: Callable[..., Any] = value
    return function


def _train(options: argparse.Namespace, rest: Arguments) -> int:
    module = _program(options).load()
    name, sys.argv[0] = sys.argv[0], "symgrad train GRAPH"  # which the program's messages begin with
    try:
        status: int = module.main(["--help"] if options.help else rest)
    finally:
        sys.argv[0] = name
    return status


def _program(options: argparse.Namespace, wrt: Sequence[str] | None = None) -> Program:
    graph = network(options.graph)
    _note("deriving the gradients and writing the program ...")
    return emit(derive(graph, wrt), options.optimizer, options.dtype, options.style)


def _note(text: str) -> None:
    """A word about work that may take long, for somebody who waits."""
    if sys.stderr and sys.stderr.isatty():
        print(text, file=sys.stderr)


# files that are written


def _untouched(content: bytes) -> bool:
    try:
        return is_untouched(content.decode()) or is_own_page(content.decode())
    except UnicodeDecodeError:
        return False


def replace_file(path: Path, content: bytes, force: bool = False) -> None:
    """Write a file, whole or not at all. Existing files are replaced only if emitted and never changed.

    Raises FileError for any other, unless `force`, and where nothing can be written.
    """
    if check_place(path, content, force):
        write_whole(path, content)


def check_place(path: Path, content: bytes | None, force: bool = False) -> bool:
    """Whether there is anything to write: not if the file has this content. Raises FileError as `replace_file` does.

    The content None is not known yet, and differs from all that is there.
    """
    try:
        if path.exists():
            old = path.read_bytes() if path.is_file() else None
            if old is not None and old == content:
                return False
            _may_replace(path, old, force)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
    return True


def check_output(path: Path, force: bool = False) -> None:
    """Raises FileError, before long work, if what it makes could not be written."""
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: there is no such directory")
    check_place(path, None, force)


def _may_replace(path: Path, old: bytes | None, force: bool) -> None:
    if old is None:
        raise FileError(f"{path}: exists and is no regular file")
    if not force and not _untouched(old):
        why = "exists, and is no file that symgrad emitted or was changed since"
        raise FileError(f"{path}: {why}", hint="choose another place, or replace it with --force")


# networks


def network(source: str) -> nx.MultiDiGraph[Any]:
    """The graph of a file or of `FILE.py:NAME`."""
    path, separator, name = source.rpartition(":")
    if not separator or not path.endswith(".py"):
        if path and not Path(source).exists() and (path.endswith(".json") or Path(path).is_file()):
            hint = f":NAME is for .py files; a graph file holds one network: {path}"
            raise FileError(f"{source}: there is no such file", hint=hint)
        return load_graph(source)
    module = _executed(Path(path))
    value: Any = _member(module, path, name)
    if isinstance(value, Tensor):
        value = symgrad.graph(value)
    if not issubclass(type(value), nx.Graph):  # what may be wrong with a graph, `derive` will say
        wanted = "a networkx.MultiDiGraph, a symgrad tensor, or a function that returns one of them"
        raise FileError(f"{source} is of type {type(value).__name__}", hint=f"expected {wanted}")
    graph: nx.MultiDiGraph[Any] = value
    return graph


def _executed(path: Path) -> ModuleType:
    content = path.read_bytes()
    module = ModuleType("symgrad_network")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses, for instance, look themselves up
    with _user_code(path):
        exec(compile(content, str(path), "exec"), module.__dict__)
    return module


def _member(module: ModuleType, path: str, name: str) -> Any:
    """What the name stands for; if that is a function, what it returns."""
    if name not in vars(module):
        known = [n for n, v in vars(module).items() if callable(v) or isinstance(v, nx.Graph | Tensor)]
        raise FileError(f"{path} defines no {name!r}", hint=nearest(name, known))
    value = vars(module)[name]
    if callable(value):
        with _user_code(Path(path)):
            return value()
    return value


@contextmanager
def _user_code(path: Path) -> Iterator[None]:
    """It finds modules beside it, prints to stderr, and what it raises becomes one FileError."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        raise FileError(f"{path}{_line_in(path, error)}: {type(error).__name__}: {error}") from error


def _line_in(path: Path, error: BaseException) -> str:
    """The innermost line of the file on the way to the error."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
