"""What each stage still has to do, and with which models."""
