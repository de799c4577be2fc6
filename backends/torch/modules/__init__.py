"""The I-STAR loss, its baseline, and its shrinkage covariance."""
