"""How calls to the outside are judged and repeated: what an error code means, how long to wait, when to give up."""
