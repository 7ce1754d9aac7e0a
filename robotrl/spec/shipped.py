"""Where the shipped robots, policies and run configurations lie: found by name or given by path."""

from __future__ import annotations

from pathlib import Path

from robotrl.errors import BadInputError

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOT = _PACKAGE / "_shipped" if (_PACKAGE / "_shipped").is_dir() else _PACKAGE.parent
"""A wheel carries the three folders inside the package; a checkout has them beside it."""

_KINDS = {"hardware": "robot.toml", "policies": "policy.onnx", "configs": ""}


def find_shipped(kind: str, name: str, *, file: Path | None = None, key: str | None = None) -> Path:
    """Return the file meant by `name`: a path that exists, or the name of something shipped.

    Args:
        kind: `hardware` (returns robot.toml), `policies` (policy.onnx) or `configs` (a TOML file).
        name: a path to the file or its folder, or a shipped name such as `quad12`.
        file: the file that says the name, if one does.
        key: its key there.

    Raises:
        BadInputError: neither exists; names what is shipped.
    """
    inner = _KINDS[kind]
    for base in (Path(name), _ROOT / kind / name):
        candidates = (base, base / inner) if inner else (base, base.with_name(base.name + ".toml"))
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    raise BadInputError(
        f"no such file or shipped name in {kind}",
        file=file,
        key=key,
        value=name,
        allowed=shipped_names(kind),
    )


def shipped_names(kind: str) -> list[str]:
    """Return the names that `find_shipped` knows for a kind."""
    inner = _KINDS[kind]
    folder = _ROOT / kind
    if inner:
        return sorted(p.parent.name for p in folder.glob(f"*/{inner}"))
    return sorted(p.stem for p in folder.glob("*.toml"))
