"""Builds evaluation sets from Flickr30k, ImageNet-1k or drawn scenes: `vehicle-search-data build`."""
