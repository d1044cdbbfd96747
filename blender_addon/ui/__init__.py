"""Operators and panels of the sidebar tab "Effigy"; they call `services` and hold no rules of their own."""
