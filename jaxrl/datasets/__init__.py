"""Data sets: recorded episodes (`read`, `write`, `check`) and images with labels (`images`)."""

from jaxrl.datasets.files import read, write, write_episodes
from jaxrl.datasets.image_sets import Images, images
from jaxrl.datasets.transitions import Dataset, Episode, Info, check

__all__ = ["Dataset", "Episode", "Images", "Info", "check", "images", "read", "write", "write_episodes"]
