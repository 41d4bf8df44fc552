"""Images: lossless loading and saving, orientation, and sampling grids."""

# First: every other module here imports nibabel.
from sctseg7t.image import nibabel_import  # noqa: F401
