"""What a training wrote so far, read by another process: `isoscore-star watch` shows it.

Read are folders of `isoscore-star finetune`, output folders of a Hugging Face Trainer, Lightning's ``metrics.csv``, and
TensorBoard's event files.
"""

from isoscore_star.watching._find import LOOKED_FOR, NoFolderError, NoLogError, open_log
from isoscore_star.watching._run_log import LOG_FILE, RunLog
from isoscore_star.watching._runs import LAYER, Log, Series, Watched, WatchedRun
from isoscore_star.watching._sparkline import PLAIN_BARS, sparkline

__all__ = [
    "LAYER",
    "LOG_FILE",
    "LOOKED_FOR",
    "PLAIN_BARS",
    "Log",
    "NoFolderError",
    "NoLogError",
    "RunLog",
    "Series",
    "Watched",
    "WatchedRun",
    "open_log",
    "sparkline",
]
