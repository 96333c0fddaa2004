"""Data in and out: the dataset folder and its card; importers and exporters."""
