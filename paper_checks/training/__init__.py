"""Fine-tuning runs that claims 8 to 14, 17 and 18 share: what each is told, how it is made, what is measured of it."""

from paper_checks.training._models import MINILM, SMALL_BERT, SMALL_GPT2, learning_rate
from paper_checks.training._pool import cost, trained
from paper_checks.training._recipe import Method, Recipe
from paper_checks.training._sizes import FULL, PAPER, QUICK, Size, size_of

__all__ = [
    "FULL",
    "MINILM",
    "PAPER",
    "QUICK",
    "SMALL_BERT",
    "SMALL_GPT2",
    "Method",
    "Recipe",
    "Size",
    "cost",
    "learning_rate",
    "size_of",
    "trained",
]
