"""Fine-tuning of Hugging Face models with I-STAR, on GLUE or files, in sweeps that can be resumed."""

from isoscore_star.finetuning._data import load_task
from isoscore_star.finetuning._encoding import encode
from isoscore_star.finetuning._examples import Examples, TaskData, split
from isoscore_star.finetuning._metrics import scores
from isoscore_star.finetuning._model import load_model, load_tokenizer
from isoscore_star.finetuning._results import Results, cell_of
from isoscore_star.finetuning._settings import Cell, Settings, cells, check_seeds, parse_sweep
from isoscore_star.finetuning._sweep import Progress, finetune

__all__ = [
    "Cell",
    "Examples",
    "Progress",
    "Results",
    "Settings",
    "TaskData",
    "cell_of",
    "cells",
    "check_seeds",
    "encode",
    "finetune",
    "load_model",
    "load_task",
    "load_tokenizer",
    "parse_sweep",
    "scores",
    "split",
]
