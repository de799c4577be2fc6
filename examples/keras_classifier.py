"""I-STAR in `model.fit`: a Keras classifier of handwritten digits, under whichever backend KERAS_BACKEND names.

The penultimate layer is regularized; λ > 0 makes its states more isotropic, λ < 0 less, and the table says what that
does to the accuracy on digits that were held out.
Needs: pip install "isoscore-star[keras]" scikit-learn, and tensorflow, torch or jax
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

import isoscore_star as iso
from isoscore_star.backends.keras import IStarCallback, IStarRegularizer

TRAINING, EPOCHS = 1200, 30


def classifier(lam: float) -> keras.Model:
    """Make a small network with the regularizer behind its penultimate layer."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(32, activation="tanh", name="states"),
            IStarRegularizer(lam, zeta=0.2),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    # torch's compiler takes longer than all that is trained here.
    jit_compile = False if keras.backend.backend() == "torch" else "auto"
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=jit_compile)
    return model


def main() -> None:
    """Train with three values of λ and print accuracy and score on held-out digits."""
    parser = argparse.ArgumentParser(description="Train a classifier of digits with I-STAR.")
    parser.add_argument("--quick", action="store_true", help="train for a few epochs only")
    epochs = 5 if parser.parse_args().quick else EPOCHS

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype("float32"), labels[order]
    training, held_out = (images[:TRAINING], labels[:TRAINING]), (images[TRAINING:], labels[TRAINING:])

    print(f"Keras on {keras.backend.backend()}, {epochs} epochs\n\nlambda | accuracy | IsoScore")
    for lam in (1.0, 0.0, -1.0):
        keras.utils.set_random_seed(0)
        model = classifier(lam)
        refresh = IStarCallback(training[0], batch_size=TRAINING)
        model.fit(*training, epochs=epochs, batch_size=64, verbose=0, callbacks=[refresh])
        accuracy = model.evaluate(*held_out, verbose=0, return_dict=True)["accuracy"]
        states = keras.Model(model.inputs, model.get_layer("states").output).predict(held_out[0], verbose=0)
        print(f"{lam:6g} | {accuracy:8.1%} | {iso.isoscore(states):8.3f}", flush=True)


if __name__ == "__main__":
    main()
