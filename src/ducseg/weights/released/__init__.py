"""The authors' released weights: readers and the network they are of."""
