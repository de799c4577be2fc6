"""The log of a folder, whatever wrote it."""

from __future__ import annotations

import stat
from pathlib import Path

from isoscore_star.readers import SelectionError
from isoscore_star.watching._finetune import FinetuneLog
from isoscore_star.watching._lightning import LightningLog
from isoscore_star.watching._runs import Log
from isoscore_star.watching._tensorboard import TensorBoardLog
from isoscore_star.watching._trainer import TrainerLog

LOOKED_FOR = (
    "log.jsonl or results.json of isoscore-star finetune, trainer_state.json of a Hugging Face Trainer (also in "
    "checkpoint-*), metrics.csv of Lightning's CSVLogger, event files of TensorBoard"
)


class NoLogError(SelectionError):
    """There is no log in a folder."""


class NoFolderError(NoLogError):
    """There is no such folder."""


def open_log(folder: str | Path) -> Log:
    """Return a reader of a folder's log.

    Parameters
    ----------
    folder : path
        A folder of `isoscore-star finetune`, a Trainer's output folder, a folder of Lightning's or TensorBoard's logs,
        or one of their runs.

    Returns
    -------
    Log
        Whose `read` returns a `Watched`, each time from what was written meanwhile.

    Raises
    ------
    NoLogError
        If there is none; the message says what was looked for. NoFolderError, if there is no such folder.
    FileContentError
        If a log is damaged; also by `read`.
    MissingDependencyError
        By `read`, if there are only event files, and TensorBoard is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from isoscore_star.watching import RunLog, open_log
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RunLog(Path(folder)).write("log", run="a", step=1, loss=0.5)
    ...     open_log(folder).read().runs[0].series["train/loss"]
    Series(steps=(1,), values=(0.5,))
    """
    path = Path(folder)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise NoLogError(path, "is no folder. Give the folder in which a run writes its log")
        for kind in (FinetuneLog, TrainerLog, LightningLog, TensorBoardLog):
            if kind.fits(path):
                return kind(path)
    except FileNotFoundError:
        raise NoFolderError(path, "there is no such folder") from None
    except (OSError, ValueError) as error:  # a name with a null sign is a ValueError
        if isinstance(error, NoLogError):
            raise
        raise NoLogError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    raise NoLogError(path, f"holds no log; looked for {LOOKED_FOR}")
