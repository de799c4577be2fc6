"""What people put into a Keras model: layers, regularizers and a metric."""
