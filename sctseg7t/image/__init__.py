"""Images: lossless loading and saving, orientation, and sampling grids."""
