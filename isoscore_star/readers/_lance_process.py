"""A program that reads a table of Lance, for a process that has to survive what a damaged table does to its reader.

Arguments are the folder, the first row, the most rows in all and in a batch (0: all of them), and columns (none: all of
them). It writes a stream of Arrow to stdout, whose schema counts the rows of the table. It imports nothing of this
package, which would take longer than what it does.
"""

from __future__ import annotations

import sys

import lance
from pyarrow import ipc


def write(folder: str, start: int, most: int, size: int, columns: list[str]) -> None:
    """Write the stream."""
    dataset = lance.dataset(folder)
    scanner = dataset.scanner(
        columns=columns or None, offset=start, limit=most or None, batch_size=size, scan_in_order=True
    )
    schema = scanner.projected_schema.with_metadata({"rows": str(dataset.count_rows())})
    with ipc.new_stream(sys.stdout.buffer, schema) as stream:
        for batch in scanner.to_batches():
            stream.write_batch(batch.replace_schema_metadata(schema.metadata))


if __name__ == "__main__":
    try:
        write(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
    except Exception as error:
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
