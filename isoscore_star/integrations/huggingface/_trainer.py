"""`IStarTrainer`: a Trainer with I-STAR."""

from __future__ import annotations

from transformers import Trainer

from isoscore_star.integrations.huggingface._mixin import IStarMixin


class IStarTrainer(IStarMixin, Trainer):
    """A `transformers.Trainer` with I-STAR; see `IStarMixin` for the arguments it adds.

    Examples
    --------
    >>> import tempfile, torch
    >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
    >>> from isoscore_star.integrations.huggingface import IStarTrainer
    >>> config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    ...                     intermediate_size=32, max_position_embeddings=16)
    >>> model = BertForSequenceClassification(config)
    >>> data = [{"input_ids": [1, 2 + i, 3], "attention_mask": [1, 1, 1], "labels": i % 2} for i in range(16)]
    >>> folder = tempfile.TemporaryDirectory()
    >>> args = TrainingArguments(folder.name, max_steps=2, report_to=[], use_cpu=True, disable_tqdm=True)
    >>> trainer = IStarTrainer(model=model, args=args, train_dataset=data, istar={"lam": 1.0})
    >>> result = trainer.train()
    {'train_runtime': ...}
    >>> result.global_step
    2
    >>> folder.cleanup()
    """
