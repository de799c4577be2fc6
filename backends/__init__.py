"""The frameworks: one file each, or a package where people train with more than the scores.

`isoscore_star.Backend` says what each has to do. Nothing is imported here: `isoscore_star.get_backend` loads a backend
when an array of its framework comes by.
"""
