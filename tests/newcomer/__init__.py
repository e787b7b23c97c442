"""Where a newcomer begins: a wheel, an empty directory, the tutorial (`tox -e newcomer`)."""
