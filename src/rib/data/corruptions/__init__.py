"""Corruptions: ImageNet-C's fifteen and its four extra ones, on the CPU or a GPU, with a seed per image."""
