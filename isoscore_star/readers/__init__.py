"""Read points from files in blocks, so that a file larger than memory can be measured.

`open_array` opens a file, whose suffix says which reader to take, or the files of a folder or of a pattern, which are
one array; every reader returns an `ArraySource`. `open_clouds` opens several with their masks, and `StreamedCloud`
measures their points.
`read_text_table` reads tables of text.
"""

from isoscore_star.readers._clouds import Cloud, open_clouds
from isoscore_star.readers._errors import FileContentError, SelectionError
from isoscore_star.readers._farthest import Farthest
from isoscore_star.readers._formats import SUFFIXES, require_fetched
from isoscore_star.readers._groups import RowGroups
from isoscore_star.readers._memory import free_memory, require_memory
from isoscore_star.readers._opening import open_array
from isoscore_star.readers._places import is_place, located
from isoscore_star.readers._shards import ShardedSource
from isoscore_star.readers._source import ArraySource, DenseSource
from isoscore_star.readers._streaming import Reservoir, StreamedCloud
from isoscore_star.readers._text_tables import TEXT_SUFFIXES, TextTable, read_text_table, require_file

__all__ = [
    "SUFFIXES",
    "TEXT_SUFFIXES",
    "ArraySource",
    "Cloud",
    "DenseSource",
    "Farthest",
    "FileContentError",
    "Reservoir",
    "RowGroups",
    "SelectionError",
    "ShardedSource",
    "StreamedCloud",
    "TextTable",
    "free_memory",
    "is_place",
    "located",
    "open_array",
    "open_clouds",
    "read_text_table",
    "require_fetched",
    "require_file",
    "require_memory",
]
