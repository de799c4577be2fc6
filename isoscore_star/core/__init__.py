"""The mathematics and what every backend shares, in the order in which data flow.

``errors``, ``formulas`` and ``protocol`` import nothing of this package but each other; ``score``, ``spread`` and
``moments`` compute; ``registry`` knows the backends; ``checks`` and ``value_checks`` look at what users give.
"""
