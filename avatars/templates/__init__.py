"""Parametric humans behind one torch interface; the arrays come from `shared.template` or from files the user owns."""
