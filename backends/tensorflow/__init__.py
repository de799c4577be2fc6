"""TensorFlow: the backend, and `tf_keras_layer` for functional tf_keras models."""

from isoscore_star.backends.tensorflow.backend import BACKEND, TensorFlowBackend

__all__ = ["BACKEND", "TensorFlowBackend"]
