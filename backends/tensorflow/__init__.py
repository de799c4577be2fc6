"""TensorFlow: the backend, and (`tf_keras_layer`) the layer that a score becomes in a functional tf_keras model."""

from isoscore_star.backends.tensorflow.backend import BACKEND, TensorFlowBackend

__all__ = ["BACKEND", "TensorFlowBackend"]
