"""Mutants of a module: its source with one comparison, number, word, operator or statement changed."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}

NAMES = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "all": "any", "any": "all",
    "inf": "nan", "nan": "inf", "isfinite": "isnan", "isnan": "isfinite",
}  # fmt: skip

ENUMS = {
    "Level": ("NONE", "LIMITING", "HOLD", "DAMP", "LIMP"),
    "CommandKind": ("TRACK", "DAMP", "LIMP"),
    "Mode": ("LIMP", "RISE", "STAND", "POLICY", "PARK", "HOLD", "DAMP"),
}
"""A member is replaced by the next one."""


@dataclass(frozen=True)
class Mutant:
    """One changed source.

    Attributes:
        name: function, text before and after; with a number where that alone is not one place.
        line: where, in the original.
        source: the whole module.
    """

    name: str
    line: int
    source: str


@dataclass(frozen=True)
class Change:
    """What to do to one node, in place."""

    node: ast.AST
    apply: Callable[[], Callable[[], None]]
    """Changes the tree; returns what takes it back."""
    words: str = ""
    """How it reads; empty where the node's own text changes."""


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text."""
    tree = ast.parse(source)
    found, seen = [], Counter[str]()
    for change, place in [*_changes(tree, "module")]:
        before = ast.unparse(change.node)
        undo = change.apply()
        name = f"{place}: {change.words or f'{before} -> {ast.unparse(change.node)}'}"
        text = ast.unparse(ast.fix_missing_locations(tree))
        undo()
        seen[name] += 1
        number = f" #{seen[name]}" if seen[name] > 1 else ""
        found.append(Mutant(name + number, getattr(change.node, "lineno", 0), text))
    return found


def _changes(node: ast.AST, place: str) -> Iterator[tuple[Change, str]]:
    """Walk the tree, past docstrings and annotations."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        place = node.name if place == "module" else f"{place}.{node.name}"
    for change in _of(node):
        yield change, place
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_text(child):
                yield from _changes(child, place)


def _is_text(node: ast.AST) -> bool:
    """Whether it is a docstring or an import: nothing to change."""
    words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return words or isinstance(node, ast.Import | ast.ImportFrom)


def _of(node: ast.AST) -> Iterator[Change]:
    """Return the changes of one node, without its children's."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            for other in OPERATORS.get(type(operator), ()):
                yield Change(node, _put(node.ops, at, other()))
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        for other in OPERATORS.get(type(node.op), ()):
            yield Change(node, _set(node, "op", other()))
    elif isinstance(node, ast.IfExp):
        yield Change(node, _set(node, "test", ast.UnaryOp(ast.Not(), node.test)))
    elif isinstance(node, ast.Constant):
        yield from (Change(node, _set(node, "value", other)) for other in _others(node.value))
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield Change(node, _set(node, "id", NAMES[node.id]))
    elif isinstance(node, ast.Attribute):
        yield from (Change(node, _set(node, "attr", other)) for other in _members(node))
    yield from _of_lists(node)


def _of_lists(node: ast.AST) -> Iterator[Change]:
    """Signs and negations removed, conditions negated, statements dropped, results lost."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.UnaryOp):
            yield Change(value, _set(node, name, value.operand), _unsigned(value))
        for at, child in enumerate(value if isinstance(value, list) else []):
            if isinstance(child, ast.UnaryOp):
                yield Change(child, _put(value, at, child.operand), _unsigned(child))
            if isinstance(child, ast.stmt) and not _is_text(child):
                yield from _of_statement(value, at, child)


def _unsigned(node: ast.UnaryOp) -> str:
    return f"{ast.unparse(node)} -> {ast.unparse(node.operand)}"


def _of_statement(body: list[ast.stmt], at: int, statement: ast.stmt) -> Iterator[Change]:
    if isinstance(statement, ast.Return) and statement.value is not None:
        yield Change(statement, _set(statement, "value", ast.Constant(None)))
    if isinstance(statement, ast.If | ast.While):
        words = f"if {ast.unparse(statement.test)} -> if not"
        yield Change(statement, _set(statement, "test", ast.UnaryOp(ast.Not(), statement.test)), words)
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr | ast.If | ast.For | ast.Raise):
        first = ast.unparse(statement).splitlines()[0]
        yield Change(statement, _put(body, at, ast.Pass()), f"drop {first}")


def _others(value: object) -> tuple[object, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int | float):
        return (value + 1, 2 * value) if 0 < abs(value) < 1 else (value + 1,)
    return (value + "?",) if isinstance(value, str) else ()


def _members(node: ast.Attribute) -> tuple[str, ...]:
    members = ENUMS.get(node.value.id, ()) if isinstance(node.value, ast.Name) else ()
    if node.attr in members:
        return (members[(members.index(node.attr) + 1) % len(members)],)
    return (NAMES[node.attr],) if node.attr in NAMES and not members else ()


def _set(node: ast.AST, field: str, value: object) -> Callable[[], Callable[[], None]]:
    def apply() -> Callable[[], None]:
        before = getattr(node, field)
        setattr(node, field, copy.copy(value))
        return lambda: setattr(node, field, before)

    return apply


def _put(items: list[Any], at: int, value: ast.AST) -> Callable[[], Callable[[], None]]:
    def apply() -> Callable[[], None]:
        before = items[at]
        items[at] = value
        return lambda: items.__setitem__(at, before)

    return apply
