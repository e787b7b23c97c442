"""The names of models as the operator wants them: values and pure functions."""
