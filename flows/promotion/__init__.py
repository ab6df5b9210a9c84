"""Promotion of a challenger: shadow, ramp, decision, and the operator's own decisions."""
