"""What training needs around a loss: layers and their masks, hooks, a pass over data, a log."""
