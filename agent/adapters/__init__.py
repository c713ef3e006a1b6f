"""The only rooms that touch the network, processes, threads, clocks and chance."""
