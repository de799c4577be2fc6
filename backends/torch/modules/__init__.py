"""What people train with: a loss, a baseline, and the covariance that the loss mixes in."""
