"""Former place of `isoscore_star.backends.tensorflow.tf_keras_layer`."""

from isoscore_star.backends.tensorflow.tf_keras_layer import ScoreLayer

__all__ = ["ScoreLayer"]
