"""The order of the steps: the only place that wires stores, stages, backends and trainers together."""
