"""Networks written without care for overflow, made safe: log(1 + exp(x)), log(sum(exp(x))), exp(x)/sum(exp(x)).

Two rules, each an identity over the reals:

    a chain of elementwise equations whose composed body `stable` knows is written as that body
    S = sum_r exp(u)  ->  S = exp(M)*R with M = max_r u, R = sum_r exp(u - M)      (in logs and quotients)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy as sp
from sympy import Expr, exp

from symgrad.equations import Equation, System, equation
from symgrad.index.definition import At, define
from symgrad.index.functions import log1p, stable
from symgrad.names import free_name
from symgrad.simplify.substitute import Operands, rebuilt, substitute

MAX_OPERATIONS = 60


def stabilise(system: System) -> System:
    """The same values, computed in forms that neither overflow nor cancel where the value is representable."""
    shifted = _with_shifted_sums(system)
    result = shifted.copy()
    for name, e in shifted.equations.items():
        result.equations[name] = _stable_chain(result, e)
    return result.pruned()


def _stable_chain(system: System, e: Equation) -> Equation:
    if (
        not e.definition.elementwise
        or e.dtype != "float"
        or not e.definition.body.has(sp.log, log1p, exp, sp.Pow, sp.Add)
    ):
        return e
    opened = _opened(system, e, lambda source: True)
    body = stable(opened.definition.body)
    changed = body != opened.definition.body
    return rebuilt(opened, body, Operands(opened.operands)) if changed else e


def _opened(system: System, e: Equation, through: Callable[[Equation], bool]) -> Equation:
    """e with the elementwise equations that it reads `through` written out, as far down as it stays small."""
    while sp.count_ops(e.definition.body) <= MAX_OPERATIONS:
        sources = {k: system.equations[k] for k in e.operands if _is_elementwise(system, k)}
        opened = substitute(system, e, {k: source for k, source in sources.items() if through(source)})
        if opened is e:
            break
        e = opened
    return e


def _is_elementwise(system: System, name: str) -> bool:
    return name in system.equations and system.equations[name].definition.elementwise


def _with_shifted_sums(system: System) -> System:
    """The second rule, for every sum of exponentials that a logarithm or a quotient reads."""
    result = system.copy()
    result.equations = {}
    factored: dict[str, Equation] = {}
    uses = system.uses()
    for e in system:
        made = _shifted(system, result, e) if _is_exposed(system, e, uses) else None
        if made:
            for part in made:
                result.add(part)
            factored[e.name] = made[-1]
        elif factored and e.definition.elementwise and set(e.operands) & factored.keys():
            changed = result.add(_cancelled(result, e, factored))
            if any(isinstance(f, exp) for f in sp.Mul.make_args(changed.definition.body)):
                factored[e.name] = changed
        else:
            result.add(e)
    return result


def _is_exposed(system: System, e: Equation, uses: Mapping[str, Sequence[str]]) -> bool:
    """Whether e is a sum that some elementwise equation takes the logarithm of or divides by."""
    d = e.definition
    if d.reduction != "sum" or not d.reduced or not d.gathers:
        return False
    level = [system.equations[name] for name in uses[e.name]]
    while level:  # down the elementwise equations that read it
        level = [user for user in level if user.definition.elementwise]
        if any(user.definition.body.has(sp.log) or _divides(user) for user in level):
            return True
        level = [system.equations[name] for user in level for name in uses[user.name]]
    return False


def _divides(user: Equation) -> bool:
    return any(p.exp.is_negative for p in user.definition.body.atoms(sp.Pow))


def _shifted(system: System, result: System, e: Equation) -> list[Equation] | None:
    """M, the shifted exponentials, their sum, and e as exp(M) times it; None if e is no bare sum of exponentials."""
    opened = e
    while isinstance(opened.definition.body.as_coeff_Mul()[1], At) and _is_elementwise(result, opened.operands[0]):
        opened = substitute(result, opened, {k: result.equations[k] for k in opened.operands})
    body = opened.definition.body
    unnamed = any(i not in body.free_symbols for i, _ in opened.definition.reduced)
    scale, body = body.as_coeff_Mul()
    if not isinstance(body, exp) or unnamed or _subtracts_maximum(result, opened):
        return None
    d = opened.definition
    taken = {*system.equations, *system.leaves, *result.equations}
    names = [free_name(f"{e.name}_{suffix}", taken) for suffix in ("arg", "max", "exp", "shifted")]
    every = [loop for loop in d.loops if loop[0] in body.free_symbols]
    kept = [loop for loop in every if loop[0] in d.write]
    index, outer = [i for i, _ in every], [i for i, _ in kept]
    sizes, outer_sizes = [n for _, n in every], [n for _, n in kept]
    remarks = {"origin": e.origin, "adjoint_of": e.adjoint_of}
    argument = equation(names[0], define(every, sizes, index, body.args[0]), opened.operands, **remarks)
    largest = equation(names[1], define(every, outer_sizes, outer, At(0, index), "max"), [names[0]], **remarks)
    difference: Expr = exp(At(0, index) - At(1, outer))
    powers = equation(names[2], define(every, sizes, index, difference), names[:2], **remarks)
    total = equation(names[3], define(every, outer_sizes, outer, At(0, index)), [names[2]], **remarks)
    output = [loop for loop in d.loops if loop[0] in d.write]
    product = scale * exp(At(0, outer)) * At(1, outer)
    whole = equation(e.name, define(output, d.shape, d.write, product), [names[1], names[3]], **remarks)
    return [argument, largest, powers, total, whole]


def _subtracts_maximum(system: System, e: Equation) -> bool:
    """Whether e's exponent is a difference from a maximum already."""
    terms = sp.Add.make_args(e.definition.body.as_coeff_Mul()[1].args[0])
    sources = (system.equations.get(e.source(-t)) for t in terms if isinstance(-t, At))
    return any(s is not None and s.definition.reduction == "max" for s in sources)


def _cancelled(system: System, e: Equation, factored: dict[str, Equation]) -> Equation:
    """e with exp(M)*R for the sum: the exponentials meet in quotients, the logarithm splits."""
    made = {*factored.values()}
    opened = _opened(system, e, lambda source: source in made or isinstance(source.definition.body, exp))
    body = stable(opened.definition.body).replace(lambda x: isinstance(x, sp.Mul), _one_exponential)
    return e if body.has(sp.zoo, sp.nan) else rebuilt(opened, body, Operands(opened.operands))


def _one_exponential(product: Expr) -> Expr:
    """exp(a)*exp(b)*c as exp(a + b)*c."""
    exponents = [f.args[0] for f in product.args if isinstance(f, exp)]
    others = [f for f in product.args if not isinstance(f, exp)]
    return sp.Mul(exp(sp.Add(*exponents)), *others)
