"""One script for each claim: it reads from top to bottom like the claim, and calls only the public interface.

A script ``claim_NN_name.py`` holds a ``CLAIM``; nothing else has to be told that it is there.
"""
