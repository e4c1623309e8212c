"""What a perturbation does to pixels, to feature maps and to the answer."""
