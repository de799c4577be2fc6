"""I-STAR in training libraries, one module for each, which needs the library of its name.

`huggingface`, `sentence_transformers` and `lightning` add the penalty to training, `torchmetrics` measures. They use
the public interface and `isoscore_star.backends.torch` only.
"""
