"""Corruptions: ImageNet-C's fifteen and the four beside them, on the CPU or a GPU, seeded image by image."""
