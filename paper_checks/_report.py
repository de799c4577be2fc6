"""What a reader sees: the table on the terminal, and RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from paper_checks._files import read_claims

_STYLES = {"holds": "green", "holds in part": "yellow", "no data": "yellow"}
_COLUMNS = ("claim", "paper", "expected", "obtained", "tolerance and why", "verdict", "time")


def show(records: Iterable[dict[str, Any]], console: Console) -> None:
    """Print the table of verdicts."""
    table = Table(*_COLUMNS)
    for record in records:
        head, *rows = _rows(record)
        table.add_section()
        table.add_row(*head, style="bold " + _STYLES.get(record["verdict"], "red"))
        for cells in rows:
            table.add_row(*cells)
    console.print(table)


def write_results(output: Path) -> Path:
    """Write RESULTS.md from the JSON of every claim in the folder."""
    records = read_claims(output)
    lines = [
        "# What came out",
        "",
        "Written by `python -m paper_checks`; what each claim's verdict means stands in `README.md` beside the code.",
        "",
        *_environments(records),
        "",
        "Times are of what was made anew: claims 8 to 14, 17 and 18 take runs that may have been there already, and",
        "say below what training stands behind them.",
        "",
        *_table(_COLUMNS, [row for record in records for row in _bold_head(_rows(record))]),
    ]
    for record in records:
        lines += _section(record)
    file = output / "RESULTS.md"
    file.write_text("\n".join(lines) + "\n")
    return file


def _rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row for the claim, with its verdict and time, and one for each check."""
    head = f"{record['number']}. {record['title']}"
    time = f"{record['seconds']:.0f} s ({record['form']})"
    rows: list[tuple[str, ...]] = [(head, record["source"], "", "", "", record["verdict"], time)]
    for check in record["checks"]:
        mark = "✓" if check["holds"] else "✗" if check["required"] else "✗ (reported)"
        rows.append((check["what"], "", check["expected"], check["obtained"], check["tolerance"], mark, ""))
    return rows


def _bold_head(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(f"**{cell}**" if cell else "" for cell in rows[0]), *rows[1:]]


def _section(record: dict[str, Any]) -> list[str]:
    lines = ["", f"## {record['number']}. {record['title']}", ""]
    lines += [f"{note}\n" for note in record["notes"]]
    lines += [f"![{stem}](results/{stem}.svg)\n" for stem in record["figures"]]
    for table in record["tables"]:
        lines += [f"{table['title']}:", "", *_table(table["columns"], table["rows"]), ""]
    return lines


def _environments(records: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each machine and set of versions, since claims may have been checked on several."""
    lines: dict[str, list[int]] = {}
    for record in records:
        found = record["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        line = f"Python {found['python']}, {found['system']}, {found['processor']}, {found['cores']} cores; {versions}."
        lines.setdefault(line, []).append(record["number"])
    if len(lines) == 1:
        return list(lines)
    return [f"Claims {', '.join(map(str, numbers))}: {line}" for line, numbers in lines.items()]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(columns), _line(["---"] * len(columns)), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
