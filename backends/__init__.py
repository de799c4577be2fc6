"""One file a framework, all of the same outline; `isoscore_star.Backend` says what each has to do.

Nothing is imported here: `isoscore_star.get_backend` loads a backend when an array of its framework comes by.
"""
