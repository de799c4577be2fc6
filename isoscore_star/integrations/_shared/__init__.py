"""Code of all integrations: making a penalty, its checkpoints, unions of calls, errors with λ = 0."""
