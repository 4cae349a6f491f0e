"""`make bench-gateway`: Capstan's gateway and its peers on one core, in one run. See loadtest/README.md."""
