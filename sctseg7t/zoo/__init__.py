"""The model zoo: entries of models and data sets, their verified files, and where those lie."""
