"""What lies on disk: HDF5 files of images, files that appear when they are whole, where they came from, PNG folders."""
