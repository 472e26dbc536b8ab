"""Flickr30k: photographs with five captions each, in the forms in which people hold them."""
