"""Reads the imports of a package's modules and compares them with an import table."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rule:
    """What modules under one name may import: internal prefixes and third-party top-level names."""

    internal: frozenset[str] = frozenset()
    third_party: frozenset[str] = frozenset()
    anything: bool = False


@dataclass(frozen=True)
class Import:
    """One import found in a module: the dotted name as far as it names a module, and its line."""

    name: str
    line: int


def modules_under(root: Path) -> dict[str, Path]:
    """Return dotted module name -> file for a package folder, `__init__` under the package's own name."""
    found = {}
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(source: str, known: frozenset[str]) -> Iterator[Import]:
    """Yield every import statement of a source text, also those inside functions.

    Args:
        source: Python text.
        known: the package's modules, so that `from package import module` names the module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(inner if inner in known else base, node.lineno)
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            yield Import("importlib.import_module", node.lineno)


def violations(sources: Mapping[str, str], table: Mapping[str, Rule], package: str) -> list[str]:
    """Return one sentence for each import that the table does not allow.

    Args:
        sources: dotted module name -> source text.
        table: module prefix -> rule; the longest matching prefix decides.
        package: the top-level package's name.
    """
    known = frozenset(sources)
    return [
        f"{module}:{found.line} imports {found.name}"
        for module, source in sources.items()
        for found in imports_of(source, known)
        if not _allowed(found.name, module, _rule_of(module, table), package)
    ]


def cycles(sources: Mapping[str, str]) -> list[str]:
    """Return the import cycles among the modules, each as `a -> b -> a`."""
    known = frozenset(sources)
    edges = {m: sorted({i.name for i in imports_of(s, known)} & known - {m}) for m, s in sources.items()}
    finished: set[str] = set()
    found: list[str] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in finished:
            for target in edges[module]:
                visit(target, [*path, module])
            finished.add(module)

    for module in sorted(sources):
        visit(module, [])
    return found


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def _rule_of(module: str, table: Mapping[str, Rule]) -> Rule:
    matching = [prefix for prefix in table if _under(module, prefix)]
    return table[max(matching, key=len)] if matching else Rule()


def _allowed(name: str, module: str, rule: Rule, package: str) -> bool:
    top = name.partition(".")[0]
    if name == "importlib.import_module" or name.startswith("."):
        return False  # a name made at run time cannot be checked, and relative names hide the package
    if top == package:
        return rule.anything or any(_under(name, prefix) for prefix in rule.internal)
    return rule.anything or top in sys.stdlib_module_names or top in rule.third_party


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
