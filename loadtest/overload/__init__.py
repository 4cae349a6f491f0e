"""`make bench-overload`: overload, fairness and prefix affinity over simulated workers. See README.md."""
