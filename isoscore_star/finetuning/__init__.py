"""Fine-tuning with I-STAR from the shell: Hugging Face models, GLUE or files, sweeps that go on where they were."""

from isoscore_star.finetuning._results import Results, cell_of
from isoscore_star.finetuning._settings import Cell, Settings, cells, parse_sweep
from isoscore_star.finetuning._sweep import Progress, finetune

__all__ = ["Cell", "Progress", "Results", "Settings", "cell_of", "cells", "finetune", "parse_sweep"]
