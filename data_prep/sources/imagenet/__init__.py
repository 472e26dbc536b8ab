"""ImageNet-1k: labelled photographs without captions, in the forms in which people hold them."""
