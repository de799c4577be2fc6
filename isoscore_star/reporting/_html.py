"""Pieces of HTML: what is not `Html` is escaped, so that no name of a file or a layer can become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from isoscore_star.reporting._escaping import escaped


class Html(str):
    """Markup of our own, which is not escaped again."""

    __slots__ = ()


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, and what a column is sorted by."""

    shown: Any
    by: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table; a minor one is left out on a phone."""

    name: str
    numeric: bool = False
    minor: bool = False


def markup(content: Any) -> Html:
    """Return markup as it is, everything else escaped."""
    return content if isinstance(content, Html) else Html(escaped(content))


def element(tag: str, content: Any, **attributes: str) -> Html:
    """Write an element; ``class_`` and ``aria_label`` are the attributes class and aria-label.

    Examples
    --------
    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    written = "".join(f' {name.rstrip("_").replace("_", "-")}="{escaped(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{written}>{markup(content)}</{tag}>")


def joined(pieces: Iterable[Any]) -> Html:
    """Put pieces behind each other."""
    return Html("".join(map(markup, pieces)))


def listed(items: Iterable[Any], tag: str = "ul", **attributes: str) -> Html:
    """Write a list, or nothing where there are no items."""
    found = [element("li", item) for item in items]
    return element(tag, joined(found), **attributes) if found else Html("")


def bar(fraction: float | None) -> Html:
    """Draw a fraction; the number stands beside it in the table."""
    width = 0.0 if fraction is None else 100 * min(max(fraction, 0.0), 1.0)
    return Html(f'<span class="bar" aria-hidden="true"><span style="width:{width:.1f}%"></span></span>')


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, sortable: bool = False) -> Html:
    """Write a table, which scrolls sideways by itself where it is too wide; nothing without rows."""
    if not rows:
        return Html("")
    head = joined(_heading(column, sortable) for column in columns)
    body = joined(
        element(
            "tr", joined(_cell(cell, column, i == 0) for i, (cell, column) in enumerate(zip(row, columns, strict=True)))
        )
        for row in rows
    )
    content = joined([element("caption", caption), element("thead", element("tr", head)), element("tbody", body)])
    classes = "sortable" if sortable else "plain"
    return element(
        "div",
        element("table", content, class_=classes),
        class_="scroll",
        role="group",
        aria_label=caption,
        tabindex="0",
    )


def _heading(column: Column, sortable: bool) -> Html:
    # Buttons, which a keyboard reaches; without the script they do nothing, so that it is the script that shows them.
    name: Any = element("button", column.name, type="button") if sortable else column.name
    classes = _classes(column)
    return element("th", name, scope="col", **({"class_": classes} if classes else {}))


def _cell(content: Any, column: Column, is_first: bool) -> Html:
    cell = content if isinstance(content, Cell) else Cell(content)
    classes = _classes(column)
    attributes = {"class_": classes} if classes else {}
    if column.numeric:
        attributes["data_by"] = "" if cell.by is None else repr(float(cell.by))
    if is_first:
        return element("th", cell.shown, scope="row", **attributes)
    return element("td", cell.shown, **attributes)


def _classes(column: Column) -> str:
    return " ".join(name for name, wanted in (("number", column.numeric), ("minor", column.minor)) if wanted)
