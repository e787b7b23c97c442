"""The command line, one file for each group: results on stdout, everything else on stderr."""
