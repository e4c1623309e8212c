"""Denoisers: networks from pixels to pixels, their training, and the sets that they denoise."""
