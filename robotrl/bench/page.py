"""The HTML of the report: a self-contained page made of cards, sections and a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

_STYLE = Path(__file__).with_name("report.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Card:
    """One key figure: what it is, its value, and what it means."""

    title: str
    value: str
    note: str


FOOTER = (
    "Written by robotrl report. Everything on this page is drawn from the recording, the emulator's record "
    "of what was true, and the training log beside it."
)


def page(title: str, subtitle: str, body: Iterable[str], footer: str = FOOTER) -> str:
    """Return the whole document; `body` is HTML, the others are text."""
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f"{''.join(body)}"
        f"<footer>{escape(footer)}</footer>"
        "</main></body></html>\n"
    )


def cards(shown: Iterable[Card]) -> str:
    """Return the row of key figures."""
    inner = "".join(
        f'<div class="card"><i>{escape(c.title)}</i><b>{escape(c.value)}</b>'
        f"<span>{escape(c.note)}</span></div>"
        for c in shown
    )
    return f'<div class="cards">{inner}</div>'


def section(title: str, caption: str, *content: str) -> str:
    """Return one section; `content` is HTML."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(caption)}</p>{''.join(content)}</section>"


def film(pictures: Iterable[tuple[str, str]], moving: str = "") -> str:
    """Return pictures with captions in a grid, below one moving picture; all are data URIs."""
    inner = "".join(
        f'<figure><img src="{uri}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for uri, caption in pictures
    )
    top = f'<img class="moving" src="{moving}" alt="the robot walking">' if moving else ""
    return f'{top}<div class="film">{inner}</div>'


def colour_key(colours: Mapping[str, str]) -> str:
    """Return a legend of named colours."""
    return (
        '<div class="key">'
        + "".join(f'<span style="--c:{colour}">{escape(name)}</span>' for name, colour in colours.items())
        + "</div>"
    )


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table with a header; every column but the first holds numbers."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="grid"><tr>{head}</tr>{body}</table>'


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return a two-column table."""
    inner = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{inner}</table>"
