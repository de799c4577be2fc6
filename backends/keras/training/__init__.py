"""What training needs beside the layers: the callback that refreshes Σ_S."""
