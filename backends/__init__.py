"""The frameworks: one file each, or a package where there are modules to train with.

`isoscore_star.Backend` is their interface. `isoscore_star.get_backend` loads them; nothing is imported here.
"""
