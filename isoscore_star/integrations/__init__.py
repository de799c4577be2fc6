"""I-STAR inside the libraries that people train with; a module each, named after its library, which it needs.

`huggingface`, `sentence_transformers` and `lightning` add the penalty to training, `torchmetrics` measures. They build
on `isoscore_star.backends.torch` and on the public interface alone.
"""
