"""The command line: one file a command group; stdout carries results, stderr the rest."""
