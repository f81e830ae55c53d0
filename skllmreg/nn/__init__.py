"""The one private network, and the losses in torch; imported where a network is fitted."""
