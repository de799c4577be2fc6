"""I-STAR in a JAX training loop: optax, flax nnx and the embedded sample of real hidden states.

A small classifier finds the topic of each token; λ > 0 makes its hidden representation more isotropic, λ < 0 less.
Needs: pip install "isoscore-star[jax]" flax optax
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import isoscore_star as iso
from isoscore_star.sample import load_sample

LAYER, TRAINING_SENTENCES, BATCH, EPOCHS = 3, 40, 8, 12


class TopicClassifier(nnx.Module):
    """Two layers: token state, hidden representation (regularized), topic."""

    def __init__(self, dim: int, topics: int, rngs: nnx.Rngs) -> None:
        self.encode = nnx.Linear(dim, 64, rngs=rngs)
        self.classify = nnx.Linear(64, topics, rngs=rngs)

    def __call__(self, states: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Give the logits and the hidden representation."""
        hidden = jnp.tanh(self.encode(states))
        return self.classify(hidden), hidden


def loss(model: TopicClassifier, states: jax.Array, mask: jax.Array, topics: jax.Array, lam: jax.Array) -> jax.Array:
    """Task loss and I-STAR; λ is an array, so that another one compiles nothing anew."""
    logits, hidden = model(states)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, topics)
    task = jnp.where(mask, each, 0).sum() / mask.sum()
    return task + iso.istar_loss(hidden, lam=lam, mask=mask, estimator="unbiased")


@nnx.jit
def step(model: TopicClassifier, optimizer: nnx.Optimizer, *batch: jax.Array) -> None:
    """Make one step of gradient descent, in place."""
    optimizer.update(model, nnx.grad(loss)(model, *batch))


@nnx.jit
def evaluate(model: TopicClassifier, states: jax.Array, mask: jax.Array, topics: jax.Array) -> tuple[jax.Array, ...]:
    """Give the accuracy and the score of the hidden representation."""
    logits, hidden = model(states)
    right = (logits.argmax(-1) == topics) & mask
    return right.sum() / mask.sum(), iso.isoscore_unbiased(hidden, mask=mask)


def main() -> None:
    """Train with three values of λ and print what held-out tokens say."""
    sample = load_sample()
    states, mask = jnp.asarray(sample.states[LAYER], jnp.float32), jnp.asarray(sample.mask)
    topics = jnp.broadcast_to(jnp.asarray(sample.labels)[:, None], mask.shape)
    training, held_out = zip(*(jnp.split(array, [TRAINING_SENTENCES]) for array in (states, mask, topics)), strict=True)
    for lam in (1.0, 0.0, -1.0):
        model = TopicClassifier(states.shape[-1], len(sample.label_names), nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)
        for epoch in range(EPOCHS):
            order = jax.random.permutation(jax.random.key(epoch), TRAINING_SENTENCES)
            for rows in order.reshape(-1, BATCH):
                step(model, optimizer, *(array[rows] for array in training), jnp.asarray(lam))
        accuracy, score = evaluate(model, *held_out)
        print(f"lam = {lam:2g}: accuracy {accuracy:.1%}, score {score:.3f}")


if __name__ == "__main__":
    main()
