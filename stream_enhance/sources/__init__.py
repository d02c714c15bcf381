"""Frames in: files, folders of images, pipes, webcams and cameras."""
