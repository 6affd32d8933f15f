"""Raw files decoded: videos, images, TFRecord files, rotations."""
