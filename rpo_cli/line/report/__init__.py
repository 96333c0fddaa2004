"""What a report of a run shows, gathered from its tables; `visuals/` draws it."""
