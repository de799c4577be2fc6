"""The mathematics and what every backend shares.

Backends build on ``errors``, ``messages``, ``formulas`` and ``protocol``; on ``scaling``, ``merging`` and ``score`` for
arrays of any framework; on ``array_likes``, ``spread`` and ``accumulator`` for NumPy's. ``registry`` loads them.
``parameters``, ``checks``, ``groups`` and ``value_checks`` check arguments; then come ``moments``, ``standard_error``.
"""
