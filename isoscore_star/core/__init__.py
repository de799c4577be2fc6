"""The mathematics and what every backend shares.

Below the backends: ``errors``, ``messages``, ``formulas``, ``protocol``; ``scaling``, ``merging`` and ``score`` for arrays
of any framework; ``array_likes``, ``spread`` and ``accumulator`` for NumPy's. ``registry`` loads the backends. Above them:
``parameters``, ``checks``, ``groups`` and ``value_checks`` look at what users give; ``moments``, ``standard_error``.
"""
