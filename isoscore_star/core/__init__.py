"""The mathematics and what every backend shares.

Below the backends stand ``errors``, ``messages``, ``formulas`` and ``protocol``; ``scaling``, ``merging`` and ``score``
for arrays of any framework; ``array_likes``, ``spread`` and ``accumulator`` for NumPy's. ``registry`` loads the
backends. Above it ``parameters``, ``checks``, ``groups`` and ``value_checks`` look at what users give; then come
``moments`` and ``standard_error``.
"""
