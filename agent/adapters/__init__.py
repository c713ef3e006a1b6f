"""The only components that touch the network, processes, threads, clocks and chance."""
